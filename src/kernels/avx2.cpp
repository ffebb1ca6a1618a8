// SPDX-License-Identifier: MIT
// AVX2 with FMA and F16C: vectors of eight floats.
#if defined(__x86_64__)
#include <cpuid.h>
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
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "kernels/x86_rows.hpp"

namespace pith::kernels {
namespace {

using F = __m256;
using I = __m256i;
using Bytes = __m256i;
constexpr std::size_t width = 8;
// Vectors that a patch of floats multiplies with: 4 x 3 sums in 16 registers, of which clang 14 would spill one and
// halve the speed.
#if defined(__clang__)
constexpr std::size_t patch_tokens = 2;
#else
constexpr std::size_t patch_tokens = 3;
#endif
constexpr std::size_t patch_groups = 1, patch_vectors = 4;  // the same for a patch of packed rows of bytes
constexpr std::size_t quad_unroll = 2;
constexpr std::size_t outer_height = 6, outer_vectors = 2;  // sums of a patch of outer products
constexpr std::size_t square_queries = 4, strip = 2;  // that a square is multiplied with together; vectors of its lanes
constexpr std::size_t panel_height = 4, panel_vectors = 2;  // sums of a patch of a product of panels
constexpr std::size_t panel_unroll = 4;
constexpr std::size_t square_unroll = 1;

inline void store_16(void* p, __m128i v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }

inline F splat(float x) { return _mm256_set1_ps(x); }
inline F splat(f16 x) { return _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(x.bits))); }
inline I splat(std::int32_t x) { return _mm256_set1_epi32(x); }

inline F load(const float* p) { return _mm256_loadu_ps(p); }
inline F load(const f16* p) { return _mm256_cvtph_ps(load_16(p)); }
inline F load(const bf16* p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16(p)), 16)); }
inline F load(const std::int8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(static_cast<const void*>(p)))));
}

inline void store(float* p, F v) { _mm256_storeu_ps(p, v); }
inline void store(f16* p, F v) { store_16(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
inline void store(bf16* p, F v) {
  const I bits = _mm256_castps_si256(v);
  const I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), splat(1));
  const I rounded = _mm256_add_epi32(bits, _mm256_add_epi32(splat(0x7fff), odd));
  const I nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const I upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, _mm256_or_si256(bits, splat(0x400000)), nan), 16);
  store_16(p, _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1)));
}
/// Signed bytes, rounded to nearest even.
inline void store_rounded(std::int8_t* p, F v) {
  const I integers = _mm256_cvtps_epi32(v);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256(integers, 1));
  _mm_storel_epi64(static_cast<__m128i*>(static_cast<void*>(p)), _mm_packs_epi16(words, words));
}

inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F max(F a, F b) { return _mm256_max_ps(a, b); }
inline F min(F a, F b) { return _mm256_min_ps(a, b); }
inline F abs(F v) { return _mm256_andnot_ps(splat(-0.0f), v); }
inline F copy_sign(F magnitude, F sign) { return _mm256_or_ps(abs(magnitude), _mm256_and_ps(splat(-0.0f), sign)); }
inline F round(F v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F to_floats(I v) { return _mm256_cvtepi32_ps(v); }

inline F power_of_2(F n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), splat(127)), 23));
}
/// v 2^n for whole n; in two steps, as 2^n alone leaves the range before the product does.
inline F times_power_of_2(F v, F n) {
  const F half = round(n * splat(0.5f));
  return v * power_of_2(half) * power_of_2(n - half);
}

inline F times_normal_power_of_2(F v, F n) { return v * power_of_2(n); }

inline void store_sums(float* p, F a, F b, F c, F d) { _mm_storeu_ps(p, sums_of_8(a, b, c, d)); }
inline float sum(F v) { return _mm_cvtss_f32(sums_of_8(v, v, v, v)); }
inline float largest(F v) { return largest_of_8(v); }
inline void store_largest(float* p, F a, F b, F c, F d) { _mm_storeu_ps(p, largest_of_8(a, b, c, d)); }

template <std::size_t apart>
inline F swapped(F v) {
  if constexpr (apart == 1) return _mm256_permute_ps(v, 0xb1);
  if constexpr (apart == 2) return _mm256_permute_ps(v, 0x4e);
  if constexpr (apart == 4) return _mm256_permute2f128_ps(v, v, 1);
}

/// The f16 in the lower half of each lane.
inline F lower_halves(I v) {
  const I halves = _mm256_and_si256(v, splat(0xffff));
  const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

template <Range range>
constexpr std::int32_t raised = 0;
template <Range range>
inline Bytes as_multiplied(Bytes quants) {
  return quants;
}

/// Lane l of 128 bits = the 16 bytes at p + l * stride.
inline Bytes load_lanes(const std::byte* p, std::size_t stride) { return load_2_lanes(p, stride); }
inline Bytes splat_lanes(const std::int8_t* p) { return _mm256_broadcastsi128_si256(load_16(p)); }

/// Each byte of 16 bits together moved to the right; what comes from the other byte is left in.
[[gnu::always_inline]] inline Bytes moved(Bytes v, int right) {
  switch (right) {  // the instructions want numbers that are known
    case -4:
      return _mm256_slli_epi16(v, 4);
    case -3:
      return _mm256_slli_epi16(v, 3);
    case -2:
      return _mm256_slli_epi16(v, 2);
    case -1:
      return _mm256_slli_epi16(v, 1);
    case 1:
      return _mm256_srli_epi16(v, 1);
    case 2:
      return _mm256_srli_epi16(v, 2);
    case 3:
      return _mm256_srli_epi16(v, 3);
    case 4:
      return _mm256_srli_epi16(v, 4);
    case 5:
      return _mm256_srli_epi16(v, 5);
    case 6:
      return _mm256_srli_epi16(v, 6);
    case 7:
      return _mm256_srli_epi16(v, 7);
    default:
      return v;
  }
}
[[gnu::always_inline]] inline Bytes moved_bits(Bytes v, int right, int mask) {
  return _mm256_and_si256(moved(v, right), _mm256_set1_epi8(static_cast<char>(mask)));
}
inline Bytes joined(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
/// `value` is added to each byte whose bit is set, of the 16 from byte `at` of its 128 bits on.
[[gnu::always_inline]] inline Bytes with_bits(Bytes low, Bytes v, std::size_t at, int value) {
  const Bytes places = _mm256_set1_epi64x(bit_of_each_byte);
  const Bytes bytes = _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(two_bytes_eightfold(at)));
  const Bytes set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, places), places);
  return _mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value))));
}
inline Bytes looked_up(Bytes table, Bytes places) { return _mm256_shuffle_epi8(table, places); }

/// Sums of two products. Of signed bytes: |w| times x with w's sign.
template <Range range>
inline I pair_products(Bytes w, Bytes x) {
  if constexpr (range == Range::signed_bytes) return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  return _mm256_maddubs_epi16(w, x);
}
inline I sums_of_pairs(I words) { return _mm256_madd_epi16(words, _mm256_set1_epi16(1)); }

template <Range range>
inline I dots_of_4(Bytes w, Bytes x) {
  return sums_of_pairs(pair_products<range>(w, x));
}
/// The sums of two pairs fit 16 bits where quants have no more than six.
template <Range range>
inline I dots_of_4(Bytes w, Bytes x, Bytes w_2, Bytes x_2) {
  if constexpr (range == Range::signed_bytes)
    return _mm256_add_epi32(dots_of_4<range>(w, x), dots_of_4<range>(w_2, x_2));
  return sums_of_pairs(_mm256_add_epi16(pair_products<range>(w, x), pair_products<range>(w_2, x_2)));
}
/// Of each 128 bits, {sum a, sum b, sum c, sum d}.
inline I sums_of_4(I a, I b, I c, I d) { return _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d)); }
/// words[k] = of each 128 bits, {a[k], b[k], c[k], d[k]}.
inline void transpose_4(Bytes a, Bytes b, Bytes c, Bytes d, I (&words)[4]) {
  const I ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
  const I ab_high = _mm256_unpackhi_epi32(a, b), cd_high = _mm256_unpackhi_epi32(c, d);
  words[0] = _mm256_unpacklo_epi64(ab, cd);
  words[1] = _mm256_unpackhi_epi64(ab, cd);
  words[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
  words[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}

inline I load(const std::int32_t* p) { return load_32(p); }
inline I add(I a, I b) { return _mm256_add_epi32(a, b); }
inline I multiply(I a, I b) { return _mm256_mullo_epi32(a, b); }
/// Byte `index` of each lane, with its sign.
inline I signed_byte(I v, std::size_t index) {
  const I upper = _mm256_sll_epi32(v, _mm_cvtsi32_si128(static_cast<int>(24 - 8 * index)));
  return _mm256_srai_epi32(upper, 24);
}
/// Bits [shift, ...) of each lane that are in the mask.
inline I bits(I v, std::size_t shift, std::int32_t mask) {
  return _mm256_and_si256(_mm256_srl_epi32(v, _mm_cvtsi32_si128(static_cast<int>(shift))), splat(mask));
}

inline Bytes load_quads(const std::int8_t* p) { return load_32(p); }
inline void store(std::int8_t* p, I quads) { store_32(p, quads); }
inline void store(std::int32_t* p, I v) { store_32(p, v); }
inline Bytes splat_quad(const std::int8_t* p) { return splat(word_at(p)); }
template <Range range>
inline I add_dot4(I sums, Bytes w, Bytes x) {
  return _mm256_add_epi32(sums, dots_of_4<range>(w, x));
}

/// Four numbers of 16 bits, those in the middle swapped, as the bytes they are multiplied with lie apart by twos.
struct Quad {
  std::int16_t numbers[4];
};
/// Numbers 0 and 2, and 1 and 3, of each lane as words.
struct Words {
  I even, odd;
};
using Quants = Words;
using QuadFactors = Words;
inline I rounded(F v) { return _mm256_cvtps_epi32(v); }
/// 32 numbers of 16 bits.
inline void store_quads(Quad* p, const I (&numbers)[4]) {
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 2; ++i) {
    const I words = _mm256_permute4x64_epi64(_mm256_packs_epi32(numbers[2 * i], numbers[2 * i + 1]), 0xd8);
    store_32(p + 4 * i, _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xd8), 0xd8));
  }
}
inline QuadFactors splat(const Quad& quad) { return {splat(word_at(quad.numbers)), splat(word_at(quad.numbers + 2))}; }
inline Quants load_quants(const std::uint8_t* p) {
  return {_mm256_and_si256(load_32(p), _mm256_set1_epi16(255)), _mm256_srli_epi16(load_32(p), 8)};
}
template <bool high>
inline Quants load_nibbles(const std::uint8_t* p) {
  const I low = _mm256_set1_epi16(15), bytes = load_32(p);
  if constexpr (high) return {_mm256_and_si256(_mm256_srli_epi16(bytes, 4), low), _mm256_srli_epi16(bytes, 12)};
  return {_mm256_and_si256(bytes, low), _mm256_and_si256(_mm256_srli_epi16(bytes, 8), low)};
}
/// The sum of a product in two parts, of which there is one here: registers are few.
inline I add_first(I sums, const Quants& quants, const QuadFactors& x) {
  const I pairs = _mm256_add_epi32(_mm256_madd_epi16(quants.even, x.even), _mm256_madd_epi16(quants.odd, x.odd));
  return _mm256_add_epi32(sums, pairs);
}
inline I add_second(I sums, const Quants&, const QuadFactors&) { return sums; }
inline I pairs(I first, I second) { return _mm256_blend_epi16(first, _mm256_slli_epi32(second, 16), 0xaa); }
inline I add_pair_products(I sums, I a, I b) { return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)); }
inline I total(I sums, I) { return sums; }

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
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) != 0 &&
         (c & bit_F16C) != 0;
}

}  // namespace

extern const Table avx2;
constinit const Table avx2 = vector_table("avx2", runs_here);

}  // namespace pith::kernels
#endif
