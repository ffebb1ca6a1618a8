// SPDX-License-Identifier: MIT
// AVX-512 with VNNI (Cascade Lake, Ice Lake, Zen 4 and later): vectors of sixteen floats. Those before it use avx2.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/block_parts.hpp"
#include "kernels/plain_rows.hpp"
#include "kernels/scratch.hpp"
#include "kernels/table.hpp"

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

namespace pith::kernel {
namespace {

using F = __m512;
using I = __m512i;
using Quads = __m512i;  // four bytes of each of sixteen rows
constexpr std::size_t width = 16;
constexpr std::size_t tile_tokens = 6;   // vectors that a tile of floats multiplies with: 4 x 6 sums in 32 registers
constexpr std::size_t tile_vectors = 8;  // the same for a tile of packed rows of bytes
constexpr std::size_t outer_height = 8, outer_vectors = 2;  // sums of a tile of outer products

inline __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_256(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline F splat(float x) { return _mm512_set1_ps(x); }
inline F splat(f16 x) { return _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(x.bits))); }
inline I splat(std::int32_t x) { return _mm512_set1_epi32(x); }

inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline F load(const f16* p) { return _mm512_cvtph_ps(load_256(p)); }
inline F load(const bf16* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_256(p)), 16)); }
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

inline __m256 folded(F v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }
inline void store_sums(float* p, F a, F b, F c, F d) {
  _mm_storeu_ps(p, sums_of_8(folded(a), folded(b), folded(c), folded(d)));
}
inline float sum(F v) { return _mm_cvtss_f32(sums_of_8(folded(v), folded(v), folded(v), folded(v))); }
inline float largest(F v) {
  return largest_of_8(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}

template <class B>
inline F load_halves(const B* const* rows, std::size_t block, f16 B::*field) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(load_8_halves(rows, block, field)),
                            load_8_halves(rows + 8, block, field), 1);
}

/// The dot product at hand is of unsigned with signed bytes: how much more than its value a quant is then.
template <class B>
constexpr int excess = std::is_same_v<B, q8_0> ? 128 : offset<B>;

template <class B>
inline __m256i load_unsigned(const B& block, std::size_t part) {
  const __m256i quants = load_part(block, part);
  if constexpr (std::is_same_v<B, q8_0>) return _mm256_xor_si256(quants, _mm256_set1_epi8(-128));
  return quants;
}

inline I joined(__m256i low, __m256i high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

/// Of each 128 bits, {sum a, sum b, sum c, sum d}.
inline I sums_of_4(I a, I b, I c, I d) {
  const I ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const I cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/// Lane r = rows[r] . x in a part.
template <class B>
inline I part_dots(const B* const* rows, std::size_t block, std::size_t part, const std::int8_t* x) {
  const __m256i once = load_32(x);
  const I vector = joined(once, once), zero = _mm512_setzero_si512();
  const I offsets = _mm512_set1_epi8(static_cast<char>(excess<B>));
  I products[8];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i) {  // rows r and r + 4 side by side
    const std::size_t r = i < 4 ? i : i + 4;
    const B &low = rows[r][block], &high = rows[r + 4][block];
    const I quants = joined(load_unsigned(low, part), load_unsigned(high, part));
    if constexpr (has_halves<B>) {
      const I pairs = _mm512_sub_epi16(_mm512_maddubs_epi16(quants, vector), _mm512_maddubs_epi16(offsets, vector));
      products[i] = _mm512_madd_epi16(pairs, joined(half_scales(low, part), half_scales(high, part)));
    } else {
      const I start = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, offsets, vector));
      products[i] = _mm512_dpbusd_epi32(start, quants, vector);
    }
  }
  const I first = sums_of_4(products[0], products[1], products[2], products[3]);
  const I second = sums_of_4(products[4], products[5], products[6], products[7]);
  return _mm512_add_epi32(_mm512_shuffle_i64x2(first, second, 0x88), _mm512_shuffle_i64x2(first, second, 0xdd));
}

template <class B>
inline void pack_quads(const B* const* rows, std::size_t block, std::size_t part, std::int8_t* out) {
#pragma GCC unroll 2
  for (std::size_t half = 0; half < width; half += 8) {
    __m256i quants[8];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < 8; ++r) quants[r] = load_unsigned(rows[half + r][block], part);
    transpose_8(quants, out + 4 * half, 4 * width);
  }
}

inline I load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
inline I add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I multiply(I a, I b) { return _mm512_mullo_epi32(a, b); }
/// Bits [shift, ...) of each lane that are in the mask.
inline I bits(I v, std::size_t shift, std::int32_t mask) {
  return _mm512_and_si512(_mm512_srl_epi32(v, _mm_cvtsi32_si128(static_cast<int>(shift))), splat(mask));
}

/// What the integer sum of packed rows starts from, given the sum of x's quants.
template <class B>
constexpr std::int32_t start_of(std::int32_t sum) {
  return -excess<B> * sum;
}
inline Quads load_quads(const std::int8_t* p) { return _mm512_loadu_si512(p); }
inline Quads splat_quad(const std::int8_t* p) {
  std::int32_t quad;
  std::memcpy(&quad, p, sizeof quad);
  return splat(quad);
}
template <class B>
inline I add_dot4(I sums, Quads w, Quads x) {
  return _mm512_dpbusd_epi32(sums, w, x);
}

}  // namespace
}  // namespace pith::kernel

#include "kernels/vector_rows.hpp"
//
#include "kernels/vector_math.hpp"
//
#include "kernels/vector_attention.hpp"
#include "kernels/vector_blocks.hpp"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#include "kernels/vector_table.hpp"

namespace pith::kernel {
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

}  // namespace pith::kernel
#endif
