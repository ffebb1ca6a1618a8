// SPDX-License-Identifier: MIT
// NEON as every 64-bit Arm has it: vectors of four floats.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/block_parts.hpp"
#include "kernels/plain_rows.hpp"
#include "kernels/scratch.hpp"
#include "kernels/table.hpp"

namespace pith::kernel {
namespace {

using F = float32x4_t;
using I = int32x4_t;
using Quads = int8x16_t;  // four bytes of each of four rows
constexpr std::size_t width = 4;
constexpr std::size_t tile_tokens = 5;   // vectors that a tile of floats multiplies with: 4 x 5 sums in 32 registers
constexpr std::size_t tile_vectors = 8;  // the same for a tile of packed rows of bytes
constexpr std::size_t outer_height = 6, outer_vectors = 4;  // sums of a tile of outer products

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

inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
inline F max(F a, F b) { return vmaxq_f32(a, b); }
inline F min(F a, F b) { return vminq_f32(a, b); }
inline F abs(F v) { return vabsq_f32(v); }
inline F copy_sign(F magnitude, F sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude); }
inline F round(F v) { return vrndnq_f32(v); }
inline F to_floats(I v) { return vcvtq_f32_s32(v); }

inline F power_of_2(F n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), splat(127)), 23)); }
/// v 2^n for whole n; in two steps, as 2^n alone leaves the range before the product does.
inline F times_power_of_2(F v, F n) {
  const F half = round(n * splat(0.5f));
  return v * power_of_2(half) * power_of_2(n - half);
}

inline F sums_of_4(F a, F b, F c, F d) { return vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)); }
inline void store_sums(float* p, F a, F b, F c, F d) { store(p, sums_of_4(a, b, c, d)); }
inline float sum(F v) { return vgetq_lane_f32(sums_of_4(v, v, v, v), 0); }
inline float largest(F v) { return vmaxvq_f32(v); }

template <class B>
inline F load_halves(const B* const* rows, std::size_t block, f16 B::*field) {
  uint16x4_t bits = vld1_dup_u16(&(rows[0][block].*field).bits);
  bits = vld1_lane_u16(&(rows[1][block].*field).bits, bits, 1);
  bits = vld1_lane_u16(&(rows[2][block].*field).bits, bits, 2);
  bits = vld1_lane_u16(&(rows[3][block].*field).bits, bits, 3);
  return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

// The 16 quants of each half of a part of a block, as they are stored: see offset.

/// Bits [shift, shift + 4) of each byte.
inline uint8x16_t nibbles(uint8x16_t v, std::size_t shift) {
  return vandq_u8(vshlq_u8(v, vdupq_n_s8(static_cast<std::int8_t>(-static_cast<int>(shift)))), vdupq_n_u8(15));
}

inline int8x16_t load_half(const q8_0& block, std::size_t, std::size_t half) {
  return vld1q_s8(block.quants + 16 * half);
}

inline int8x16_t load_half(const q4_0& block, std::size_t, std::size_t half) {
  return vreinterpretq_s8_u8(nibbles(vld1q_u8(block.nibbles), 4 * half));
}

inline int8x16_t load_half(const q4_k& block, std::size_t part, std::size_t half) {
  return vreinterpretq_s8_u8(nibbles(vld1q_u8(block.nibbles + part / 2 * 32 + 16 * half), part % 2 * 4));
}

inline int8x16_t load_half(const q6_k& block, std::size_t part, std::size_t half) {
  const std::size_t quarter = part % 4;
  const uint8x16_t low =
      nibbles(vld1q_u8(block.nibbles + part / 4 * 64 + quarter % 2 * 32 + 16 * half), quarter / 2 * 4);
  const uint8x16_t upper = nibbles(vld1q_u8(block.upper + part / 4 * 32 + 16 * half), quarter * 2);
  return vreinterpretq_s8_u8(vorrq_u8(low, vshlq_n_u8(vandq_u8(upper, vdupq_n_u8(3)), 4)));
}

/// Four sums of four products of signed bytes; two fit 16 bits.
inline I dots_of_4(int8x16_t w, int8x16_t x) {
  return vpaddq_s32(vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x))), vpaddlq_s16(vmull_high_s8(w, x)));
}

/// Lane r = rows[r] . x in a part.
template <class B>
inline I part_dots(const B* const* rows, std::size_t block, std::size_t part, const std::int8_t* x) {
  const int8x16_t first = vld1q_s8(x), second = vld1q_s8(x + 16), offsets = vdupq_n_s8(offset<B>);
  const I low_excess = dots_of_4(offsets, first), high_excess = dots_of_4(offsets, second);
  I products[4];
#pragma GCC unroll 4
  for (std::size_t r = 0; r < 4; ++r) {
    const B& row = rows[r][block];
    I low = vsubq_s32(dots_of_4(load_half(row, part, 0), first), low_excess);
    I high = vsubq_s32(dots_of_4(load_half(row, part, 1), second), high_excess);
    if constexpr (has_halves<B>) {
      low = vmulq_n_s32(low, row.part_scales[2 * part]);
      high = vmulq_n_s32(high, row.part_scales[2 * part + 1]);
    }
    products[r] = vaddq_s32(low, high);
  }
  return vpaddq_s32(vpaddq_s32(products[0], products[1]), vpaddq_s32(products[2], products[3]));
}

template <class B>
inline void pack_quads(const B* const* rows, std::size_t block, std::size_t part, std::int8_t* out) {
#pragma GCC unroll 2
  for (std::size_t half = 0; half < 2; ++half) {  // four quads of four rows: a transposition of 4 x 4
    I quads[4];
#pragma GCC unroll 4
    for (std::size_t r = 0; r < 4; ++r) quads[r] = vreinterpretq_s32_s8(load_half(rows[r][block], part, half));
    const I a = vtrn1q_s32(quads[0], quads[1]), b = vtrn2q_s32(quads[0], quads[1]);
    const I c = vtrn1q_s32(quads[2], quads[3]), d = vtrn2q_s32(quads[2], quads[3]);
    const I columns[4] = {
        vcombine_s32(vget_low_s32(a), vget_low_s32(c)), vcombine_s32(vget_low_s32(b), vget_low_s32(d)),
        vcombine_s32(vget_high_s32(a), vget_high_s32(c)), vcombine_s32(vget_high_s32(b), vget_high_s32(d))};
#pragma GCC unroll 4
    for (std::size_t k = 0; k < 4; ++k) vst1q_s8(out + 64 * half + 16 * k, vreinterpretq_s8_s32(columns[k]));
  }
}

inline I load(const std::int32_t* p) { return vld1q_s32(p); }
inline I add(I a, I b) { return vaddq_s32(a, b); }
inline I multiply(I a, I b) { return vmulq_s32(a, b); }
/// Bits [shift, ...) of each lane that are in the mask.
inline I bits(I v, std::size_t shift, std::int32_t mask) {
  const int32x4_t down = vdupq_n_s32(-static_cast<std::int32_t>(shift));
  return vandq_s32(vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), down)), vdupq_n_s32(mask));
}

/// What the integer sum of packed rows starts from, given the sum of x's quants.
template <class B>
constexpr std::int32_t start_of(std::int32_t sum) {
  return -offset<B> * sum;
}
inline Quads load_quads(const std::int8_t* p) { return vld1q_s8(p); }
inline Quads splat_quad(const std::int8_t* p) {
  std::int32_t quad;
  std::memcpy(&quad, p, sizeof quad);
  return vreinterpretq_s8_s32(splat(quad));
}
template <class B>
inline I add_dot4(I sums, Quads w, Quads x) {
  return vaddq_s32(sums, dots_of_4(w, x));
}

}  // namespace
}  // namespace pith::kernel

#include "kernels/vector_rows.hpp"
//
#include "kernels/vector_math.hpp"
//
#include "kernels/vector_attention.hpp"
#include "kernels/vector_blocks.hpp"
#include "kernels/vector_table.hpp"

namespace pith::kernel {
namespace {

bool runs_here() { return true; }

}  // namespace

extern const Table neon;
constinit const Table neon = vector_table("neon", runs_here);

}  // namespace pith::kernel
#endif
