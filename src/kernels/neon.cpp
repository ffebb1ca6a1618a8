// SPDX-License-Identifier: MIT
// NEON as every 64-bit Arm has it: vectors of four floats.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/plain_panels.hpp"
#include "kernels/plain_rows.hpp"
#include "kernels/scratch.hpp"
#include "kernels/table.hpp"
#include "kernels/vocabulary.hpp"

namespace pith::kernels {
namespace {

using F = float32x4_t;
using I = int32x4_t;
using Bytes = int8x16_t;
constexpr std::size_t width = 4;
constexpr std::size_t patch_tokens = 5;  // vectors that a patch of floats multiplies with: 4 x 5 sums in 32 registers
constexpr std::size_t patch_groups = 1, patch_vectors = 8;  // the same for a patch of packed rows of bytes
constexpr std::size_t quad_unroll = 1;
constexpr std::size_t outer_height = 6, outer_vectors = 4;  // sums of a patch of outer products
constexpr std::size_t square_queries = 4, strip = 2;  // that a square is multiplied with together; vectors of its lanes
constexpr std::size_t panel_height = 4, panel_vectors = 4;  // sums of a patch of a product of panels
constexpr std::size_t panel_unroll = 1;
constexpr std::size_t square_unroll = 1;

inline F splat(float x) { return vdupq_n_f32(x); }
inline F splat(f16 x) { return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(x.bits))); }
inline I splat(std::int32_t x) { return vdupq_n_s32(x); }

inline F load(const float* p) { return vld1q_f32(p); }
inline F load(const f16* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits))); }
inline F load(const bf16* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16)); }
inline F load(const std::int8_t* p) {
  std::int32_t four;
  std::memcpy(&four, p, sizeof four);
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}

inline void store(float* p, F v) { vst1q_f32(p, v); }
inline void store(f16* p, F v) { vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
inline void store(bf16* p, F v) {
  const uint32x4_t bits = vreinterpretq_u32_f32(v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(vdupq_n_u32(0x7fff), odd));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  vst1_u16(&p->bits, vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16));
}
/// Signed bytes, rounded to nearest even.
inline void store_rounded(std::int8_t* p, F v) {
  const int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(v));
  const std::int32_t four = vget_lane_s32(vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words))), 0);
  std::memcpy(p, &four, sizeof four);
}

inline std::int16_t sum_of_16(const std::int8_t* p) { return vaddlvq_s8(vld1q_s8(p)); }

inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
inline F max(F a, F b) { return vmaxq_f32(a, b); }
inline F min(F a, F b) { return vminq_f32(a, b); }
inline F abs(F v) { return vabsq_f32(v); }
inline F copy_sign(F magnitude, F sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude); }
inline F round(F v) { return vrndnq_f32(v); }
inline F to_floats(I v) { return vcvtq_f32_s32(v); }
/// Rounded to nearest even; of what is no such number, any.
inline std::int32_t integer(float x) { return vcvtns_s32_f32(x); }

inline F power_of_2(F n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), splat(127)), 23)); }
/// v 2^n for whole n; in two steps, as 2^n alone leaves the range before the product does.
inline F times_power_of_2(F v, F n) {
  const F half = round(n * splat(0.5f));
  return v * power_of_2(half) * power_of_2(n - half);
}

inline F times_normal_power_of_2(F v, F n) { return v * power_of_2(n); }

inline F sums_of_4(F a, F b, F c, F d) { return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)); }
inline void store_sums(float* p, F a, F b, F c, F d) { store(p, sums_of_4(a, b, c, d)); }
inline float sum(F v) { return vgetq_lane_f32(sums_of_4(v, v, v, v), 0); }
inline float largest(F v) { return vmaxvq_f32(v); }
inline void store_largest(float* p, F a, F b, F c, F d) { store(p, vpmaxq_f32(vpmaxq_f32(a, b), vpmaxq_f32(c, d))); }

template <std::size_t apart>
inline F swapped(F v) {
  if constexpr (apart == 1) return vrev64q_f32(v);
  if constexpr (apart == 2) return vextq_f32(v, v, 2);
}

/// The f16 in the lower half of each lane.
inline F lower_halves(I v) { return vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(v))); }

template <Range range>
constexpr std::int32_t raised = 0;
template <Range range>
inline Bytes as_multiplied(Bytes quants) {
  return quants;
}

/// Lane l of 128 bits, of which there is one here = the 16 bytes at p + l * stride.
inline Bytes load_lanes(const std::byte* p, std::size_t) {
  return vld1q_s8(static_cast<const std::int8_t*>(static_cast<const void*>(p)));
}
inline Bytes splat_lanes(const std::int8_t* p) { return vld1q_s8(p); }

inline Bytes moved_bits(Bytes v, int right, int mask) {
  const uint8x16_t moved = vshlq_u8(vreinterpretq_u8_s8(v), vdupq_n_s8(static_cast<std::int8_t>(-right)));
  return vreinterpretq_s8_u8(vandq_u8(moved, vdupq_n_u8(static_cast<std::uint8_t>(mask))));
}
inline Bytes joined(Bytes a, Bytes b) { return vorrq_s8(a, b); }
/// `value` is added to each byte whose bit is set, of the 16 from byte `at` on.
inline Bytes with_bits(Bytes low, Bytes v, std::size_t at, int value) {
  const auto byte = static_cast<std::uint8_t>(at);
  const uint8x16_t which = vcombine_u8(vdup_n_u8(byte), vdup_n_u8(static_cast<std::uint8_t>(byte + 1)));
  const uint8x16_t places = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  const uint8x16_t set = vtstq_u8(vqtbl1q_u8(vreinterpretq_u8_s8(v), which), places);
  return vorrq_s8(low, vreinterpretq_s8_u8(vandq_u8(set, vdupq_n_u8(static_cast<std::uint8_t>(value)))));
}
inline Bytes looked_up(Bytes table, Bytes places) { return vqtbl1q_s8(table, vreinterpretq_u8_s8(places)); }

/// Two products of signed bytes fit 16 bits.
template <Range range>
inline I dots_of_4(Bytes w, Bytes x) {
  return vpaddq_s32(vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x))), vpaddlq_s16(vmull_high_s8(w, x)));
}
template <Range range>
inline I dots_of_4(Bytes w, Bytes x, Bytes w_2, Bytes x_2) {
  return vaddq_s32(dots_of_4<range>(w, x), dots_of_4<range>(w_2, x_2));
}
inline I sums_of_4(I a, I b, I c, I d) { return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)); }
/// words[k] = {a[k], b[k], c[k], d[k]}
inline void transpose_4(Bytes a, Bytes b, Bytes c, Bytes d, I (&words)[4]) {
  const I ab = vtrn1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
  const I ab_2 = vtrn2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
  const I cd = vtrn1q_s32(vreinterpretq_s32_s8(c), vreinterpretq_s32_s8(d));
  const I cd_2 = vtrn2q_s32(vreinterpretq_s32_s8(c), vreinterpretq_s32_s8(d));
  words[0] = vcombine_s32(vget_low_s32(ab), vget_low_s32(cd));
  words[1] = vcombine_s32(vget_low_s32(ab_2), vget_low_s32(cd_2));
  words[2] = vcombine_s32(vget_high_s32(ab), vget_high_s32(cd));
  words[3] = vcombine_s32(vget_high_s32(ab_2), vget_high_s32(cd_2));
}

inline I load(const std::int32_t* p) { return vld1q_s32(p); }
inline I add(I a, I b) { return vaddq_s32(a, b); }
inline I multiply(I a, I b) { return vmulq_s32(a, b); }
/// Byte `index` of each lane, with its sign.
inline I signed_byte(I v, std::size_t index) {
  return vshrq_n_s32(vshlq_s32(v, vdupq_n_s32(24 - 8 * static_cast<std::int32_t>(index))), 24);
}
/// Bits [shift, ...) of each lane that are in the mask.
inline I bits(I v, std::size_t shift, std::int32_t mask) {
  const int32x4_t down = vdupq_n_s32(-static_cast<std::int32_t>(shift));
  return vandq_s32(vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), down)), vdupq_n_s32(mask));
}

inline Bytes load_quads(const std::int8_t* p) { return vld1q_s8(p); }
inline void store(std::int8_t* p, I quads) { vst1q_s8(p, vreinterpretq_s8_s32(quads)); }
inline void store(std::int32_t* p, I v) { vst1q_s32(p, v); }
inline Bytes splat_quad(const std::int8_t* p) { return vreinterpretq_s8_s32(splat(word_at(p))); }
template <Range range>
inline I add_dot4(I sums, Bytes w, Bytes x) {
  return vaddq_s32(sums, dots_of_4<range>(w, x));
}

/// Four numbers of 16 bits, those in the middle swapped, as the bytes they are multiplied with lie apart by twos.
struct Quad {
  std::int16_t numbers[4];
};
/// Numbers 0 and 2, and 1 and 3, of each lane as words.
struct Words {
  int16x8_t even, odd;
};
using Quants = Words;
using QuadFactors = Words;
inline I rounded(F v) { return vcvtnq_s32_f32(v); }
/// 32 numbers of 16 bits.
inline void store_quads(Quad* p, const I (&numbers)[8]) {
  for (std::size_t i = 0; i < 8; ++i) {
    const int16x4_t words = vqmovn_s32(numbers[i]);
    const int32x2_t even = vreinterpret_s32_s16(vuzp1_s16(words, words));
    const int32x2_t odd = vreinterpret_s32_s16(vuzp2_s16(words, words));
    vst1_s16(p[i].numbers, vreinterpret_s16_s32(vzip1_s32(even, odd)));
  }
}
inline QuadFactors splat(const Quad& quad) {
  return {vreinterpretq_s16_s32(splat(word_at(quad.numbers))), vreinterpretq_s16_s32(splat(word_at(quad.numbers + 2)))};
}
inline Quants load_quants(const std::uint8_t* p) {
  const uint16x8_t pairs = vreinterpretq_u16_u8(vld1q_u8(p));
  return {vreinterpretq_s16_u16(vandq_u16(pairs, vdupq_n_u16(255))), vreinterpretq_s16_u16(vshrq_n_u16(pairs, 8))};
}
template <bool high>
inline Quants load_nibbles(const std::uint8_t* p) {
  const uint16x8_t pairs = vreinterpretq_u16_u8(vld1q_u8(p)), low = vdupq_n_u16(15);
  const uint16x8_t even = high ? vandq_u16(vshrq_n_u16(pairs, 4), low) : vandq_u16(pairs, low);
  const uint16x8_t odd = high ? vshrq_n_u16(pairs, 12) : vandq_u16(vshrq_n_u16(pairs, 8), low);
  return {vreinterpretq_s16_u16(even), vreinterpretq_s16_u16(odd)};
}
/// The sum of a product in two parts: of the first two lanes, each in two pairs, and of the others.
inline I add_first(I sums, const Quants& quants, const QuadFactors& x) {
  return vmlal_s16(vmlal_s16(sums, vget_low_s16(quants.even), vget_low_s16(x.even)), vget_low_s16(quants.odd),
                   vget_low_s16(x.odd));
}
inline I add_second(I sums, const Quants& quants, const QuadFactors& x) {
  return vmlal_high_s16(vmlal_high_s16(sums, quants.even, x.even), quants.odd, x.odd);
}
inline I pairs(I first, I second) {
  return vreinterpretq_s32_s16(vtrn1q_s16(vreinterpretq_s16_s32(first), vreinterpretq_s16_s32(second)));
}
inline I add_pair_products(I sums, I a, I b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  return vaddq_s32(sums, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}
inline I total(I first, I second) { return vpaddq_s32(first, second); }

}  // namespace
}  // namespace pith::kernels

#include "kernels/vector_kernels.hpp"
//
#include "kernels/vector_table.hpp"

namespace pith::kernels {
namespace {

bool runs_here() { return true; }

}  // namespace

extern const Table neon;
constinit const Table neon = vector_table("neon", runs_here);

}  // namespace pith::kernels
#endif
