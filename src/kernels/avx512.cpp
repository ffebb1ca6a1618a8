// SPDX-License-Identifier: MIT
// AVX-512 with VNNI (Cascade Lake, Ice Lake, Zen 4 and later): vectors of sixteen floats. Those before it use avx2.
#if defined(__x86_64__)
#include <immintrin.h>

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

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
                             apply_to = function)
#else
// g++ 12's own intrinsics leave lanes that do not matter uninitialised, and unoptimised are macros with masks of -1.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

#include "kernels/x86_rows.hpp"

namespace pith::kernels {
namespace {

using F = __m512;
using I = __m512i;
using Bytes = __m512i;
constexpr std::size_t width = 16;
constexpr std::size_t patch_tokens = 6;   // vectors that a patch of floats multiplies with: 4 x 6 sums in 32 registers
constexpr std::size_t patch_vectors = 8;  // the same for a patch of packed rows of bytes
constexpr std::size_t outer_height = 8, outer_vectors = 2;  // sums of a patch of outer products
constexpr std::size_t square_queries = 6, strip = 2;  // that a square is multiplied with together; vectors of its lanes
constexpr std::size_t panel_height = 8, panel_vectors = 2;  // sums of a patch of a product of panels
constexpr std::size_t panel_unroll = 4;
constexpr std::size_t square_unroll = 8;  // in a loop g++ 12 stores its sums

inline __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline F splat(float x) { return _mm512_set1_ps(x); }
inline F splat(f16 x) { return _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(x.bits))); }
inline I splat(std::int32_t x) { return _mm512_set1_epi32(x); }

inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline F load(const f16* p) { return _mm512_cvtph_ps(load_256(p)); }
/// Of bf16.
inline F widened(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
inline F load(const bf16* p) { return widened(load_256(p)); }
inline F load(const std::int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(p)))));
}

inline void store(float* p, F v) { _mm512_storeu_ps(p, v); }
inline void store(f16* p, F v) { store_256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
inline void store(bf16* p, F v) {
  const I bits = _mm512_castps_si512(v);
  const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), splat(1));
  const I rounded = _mm512_add_epi32(bits, _mm512_add_epi32(splat(0x7fff), odd));
  const I quiet = _mm512_or_si512(bits, splat(0x400000));
  const I chosen = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
  store_256(p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16)));
}
/// Signed bytes, rounded to nearest even.
inline void store_rounded(std::int8_t* p, F v) {
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

inline __mmask16 first_lanes(std::size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
inline F load_some(const float* p, std::size_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline F load_some(const f16* p, std::size_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
inline F load_some(const bf16* p, std::size_t n) { return widened(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
inline void store_some(float* p, F v, std::size_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F max(F a, F b) { return _mm512_max_ps(a, b); }
inline F min(F a, F b) { return _mm512_min_ps(a, b); }
inline F abs(F v) { return _mm512_andnot_ps(splat(-0.0f), v); }
inline F copy_sign(F magnitude, F sign) { return _mm512_or_ps(abs(magnitude), _mm512_and_ps(splat(-0.0f), sign)); }
inline F round(F v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F to_floats(I v) { return _mm512_cvtepi32_ps(v); }
/// v 2^n for whole n.
inline F times_power_of_2(F v, F n) { return _mm512_scalef_ps(v, n); }

inline F times_normal_power_of_2(F v, F n) { return _mm512_scalef_ps(v, n); }

inline __m256 folded(F v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }
inline void store_sums(float* p, F a, F b, F c, F d) {
  _mm_storeu_ps(p, sums_of_8(folded(a), folded(b), folded(c), folded(d)));
}
inline float sum(F v) { return _mm_cvtss_f32(sums_of_8(folded(v), folded(v), folded(v), folded(v))); }
inline __m256 folded_largest(F v) { return _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }
inline void store_largest(float* p, F a, F b, F c, F d) {
  _mm_storeu_ps(p, largest_of_8(folded_largest(a), folded_largest(b), folded_largest(c), folded_largest(d)));
}
inline float largest(F v) { return largest_of_8(folded_largest(v)); }

template <std::size_t apart>
inline F swapped(F v) {
  if constexpr (apart == 1) return _mm512_permute_ps(v, 0xb1);
  if constexpr (apart == 2) return _mm512_permute_ps(v, 0x4e);
  if constexpr (apart == 4) return _mm512_shuffle_f32x4(v, v, 0xb1);
  if constexpr (apart == 8) return _mm512_shuffle_f32x4(v, v, 0x4e);
}

/// The f16 in the lower half of each lane.
inline F lower_halves(I v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }

// The dot product at hand is of unsigned with signed bytes.
template <Range range>
constexpr std::int32_t raised = range == Range::signed_bytes ? 128 : 0;
template <Range range>
inline Bytes as_multiplied(Bytes quants) {
  return range == Range::signed_bytes ? _mm512_xor_si512(quants, _mm512_set1_epi8(-128)) : quants;
}

/// Lane l of 128 bits = the 16 bytes at p + l * stride.
inline Bytes load_lanes(const std::byte* p, std::size_t stride) {
  const __m256i low = load_2_lanes(p, stride), high = load_2_lanes(p + 2 * stride, stride);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
inline Bytes splat_lanes(const std::int8_t* p) { return _mm512_broadcast_i32x4(load_16(p)); }

/// Each byte of 16 bits together moved to the right; what comes from the other byte is left in.
[[gnu::always_inline]] inline Bytes moved(Bytes v, int right) {
  switch (right) {  // the instructions want numbers that are known
    case -4:
      return _mm512_slli_epi16(v, 4);
    case -3:
      return _mm512_slli_epi16(v, 3);
    case -2:
      return _mm512_slli_epi16(v, 2);
    case -1:
      return _mm512_slli_epi16(v, 1);
    case 1:
      return _mm512_srli_epi16(v, 1);
    case 2:
      return _mm512_srli_epi16(v, 2);
    case 3:
      return _mm512_srli_epi16(v, 3);
    case 4:
      return _mm512_srli_epi16(v, 4);
    case 5:
      return _mm512_srli_epi16(v, 5);
    case 6:
      return _mm512_srli_epi16(v, 6);
    case 7:
      return _mm512_srli_epi16(v, 7);
    default:
      return v;
  }
}
[[gnu::always_inline]] inline Bytes moved_bits(Bytes v, int right, int mask) {
  return _mm512_and_si512(moved(v, right), _mm512_set1_epi8(static_cast<char>(mask)));
}
inline Bytes joined(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
/// `value` is added to each byte whose bit is set, of the 16 from byte `at` of its 128 bits on.
[[gnu::always_inline]] inline Bytes with_bits(Bytes low, Bytes v, std::size_t at, int value) {
  const Bytes bytes = _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(two_bytes_eightfold(at)));
  const __mmask64 set = _mm512_test_epi8_mask(bytes, _mm512_set1_epi64(bit_of_each_byte));
  return _mm512_mask_add_epi8(low, set, low, _mm512_set1_epi8(static_cast<char>(value)));
}
inline Bytes looked_up(Bytes table, Bytes places) { return _mm512_shuffle_epi8(table, places); }

template <Range range>
inline I dots_of_4(Bytes w, Bytes x) {
  return _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, x);
}
template <Range range>
inline I dots_of_4(Bytes w, Bytes x, Bytes w_2, Bytes x_2) {
  return _mm512_dpbusd_epi32(dots_of_4<range>(w, x), w_2, x_2);
}
/// Of each 128 bits, {sum a, sum b, sum c, sum d}.
inline I sums_of_4(I a, I b, I c, I d) {
  const I ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const I cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}
/// words[k] = of each 128 bits, {a[k], b[k], c[k], d[k]}.
inline void transpose_4(Bytes a, Bytes b, Bytes c, Bytes d, I (&words)[4]) {
  const I ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
  const I ab_high = _mm512_unpackhi_epi32(a, b), cd_high = _mm512_unpackhi_epi32(c, d);
  words[0] = _mm512_unpacklo_epi64(ab, cd);
  words[1] = _mm512_unpackhi_epi64(ab, cd);
  words[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
  words[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}

inline I load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
inline I add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I multiply(I a, I b) { return _mm512_mullo_epi32(a, b); }
/// Byte `index` of each lane, with its sign.
inline I signed_byte(I v, std::size_t index) {
  const I upper = _mm512_sll_epi32(v, _mm_cvtsi32_si128(static_cast<int>(24 - 8 * index)));
  return _mm512_srai_epi32(upper, 24);
}
/// Bits [shift, ...) of each lane that are in the mask.
inline I bits(I v, std::size_t shift, std::int32_t mask) {
  return _mm512_and_si512(_mm512_srl_epi32(v, _mm_cvtsi32_si128(static_cast<int>(shift))), splat(mask));
}

inline Bytes load_quads(const std::int8_t* p) { return _mm512_loadu_si512(p); }
inline void store(std::int8_t* p, I quads) { _mm512_storeu_si512(p, quads); }
inline void store(std::int32_t* p, I v) { _mm512_storeu_si512(p, v); }
inline Bytes splat_quad(const std::int8_t* p) { return splat(word_at(p)); }
template <Range range>
inline I add_dot4(I sums, Bytes w, Bytes x) {
  return _mm512_dpbusd_epi32(sums, w, x);
}

/// Four numbers of 16 bits, 256 high + low, beside four bytes that they are multiplied with.
struct Quad {
  std::int8_t high[4], low[4];
};
struct QuadFactors {
  Bytes high, low;
};
using Quants = Bytes;
inline I rounded(F v) { return _mm512_cvtps_epi32(v); }
/// 32 numbers of at most 127 * 256.
inline void store_quads(Quad* p, const I (&numbers)[2]) {
  // Words; those of numbers[1] in the upper halves of lanes.
  const I low = _mm512_packs_epi32(numbers[0], numbers[1]);
  const I high = _mm512_add_epi16(low, _mm512_set1_epi16(128));
  const I bytes = _mm512_mask_mov_epi8(low, 0xaaaaaaaaaaaaaaaau, high);
  const I apart = _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_setr_epi8(1, 3, 5, 7, 0, 2, 4, 6,  //
                                                                                  9, 11, 13, 15, 8, 10, 12, 14)));
  _mm512_storeu_si512(p, _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), apart));
}
inline QuadFactors splat(const Quad& quad) { return {splat(word_at(quad.high)), splat(word_at(quad.low))}; }
inline Quants load_quants(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
template <bool high>
inline Quants load_nibbles(const std::uint8_t* p) {
  const I bytes = _mm512_loadu_si512(p);
  return _mm512_and_si512(high ? _mm512_srli_epi16(bytes, 4) : bytes, _mm512_set1_epi8(15));
}
/// The sum of a product in two parts.
inline I add_first(I sums, Quants quants, const QuadFactors& x) { return _mm512_dpbusd_epi32(sums, quants, x.low); }
inline I add_second(I sums, Quants quants, const QuadFactors& x) { return _mm512_dpbusd_epi32(sums, quants, x.high); }
inline I pairs(I first, I second) { return _mm512_mask_mov_epi16(first, 0xaaaaaaaau, _mm512_slli_epi32(second, 16)); }
inline I add_pair_products(I sums, I a, I b) { return _mm512_dpwssd_epi32(sums, a, b); }
inline I total(I low, I high) { return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low); }

}  // namespace
}  // namespace pith::kernels

#include "kernels/vector_kernels.hpp"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#include "kernels/vector_table.hpp"

namespace pith::kernels {
namespace {

bool runs_here() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

}  // namespace

extern const Table avx512;
constinit const Table avx512 = vector_table("avx512", runs_here);

}  // namespace pith::kernels
#endif
