// SPDX-License-Identifier: MIT
// What the x86 vocabularies share: eight rows of q8_0 in 256 bits, and sums of eight lanes. Included inside a target
// region.
#pragma once

namespace pith::kernel {
namespace {

/// {sum a, sum b, sum c, sum d}
inline __m128 sums_of_8(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

/// Lane r = the sum of v[r].
inline __m256i sums_of_8(const __m256i (&v)[8]) {
  const __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
  const __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

inline float largest_of_8(__m256 v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline __m256i load_32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline void store_32(std::int8_t* p, __m256i v) {
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), v);
}

template <class B>
inline __m256 load_8_halves(const B* const* rows, std::size_t b, f16 B::*field) {
  const auto bits = [&](std::size_t r) { return static_cast<short>((rows[r][b].*field).bits); };
  return _mm256_cvtph_ps(_mm_setr_epi16(bits(0), bits(1), bits(2), bits(3), bits(4), bits(5), bits(6), bits(7)));
}

// The 32 quants of a part of a block, as they are stored: see offset.

inline __m128i load_low(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

inline __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }

inline __m256i load_part(const q8_0& block, std::size_t) { return load_32(block.quants); }

inline __m256i load_part(const q4_0& block, std::size_t) {
  const __m128i bytes = load_low(block.nibbles);
  const __m256i nibbles = _mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
  return low_nibbles(nibbles);
}

inline __m256i load_part(const q4_k& block, std::size_t part) {
  const __m256i bytes = load_32(block.nibbles + part / 2 * 32);
  return low_nibbles(_mm256_srl_epi16(bytes, _mm_cvtsi32_si128(static_cast<int>(part % 2 * 4))));
}

inline __m256i load_part(const q6_k& block, std::size_t part) {
  const std::size_t half = part / 4, quarter = part % 4;
  const __m256i bytes = load_32(block.nibbles + half * 64 + quarter % 2 * 32);
  const __m256i low = low_nibbles(_mm256_srl_epi16(bytes, _mm_cvtsi32_si128(static_cast<int>(quarter / 2 * 4))));
  const __m256i upper =
      _mm256_srl_epi16(load_32(block.upper + half * 32), _mm_cvtsi32_si128(static_cast<int>(quarter * 2)));
  const __m256i high = _mm256_slli_epi16(_mm256_and_si256(upper, _mm256_set1_epi8(3)), 4);
  return _mm256_or_si256(low, high);
}

/// What the halves of a part are multiplied with, eight times each.
inline __m256i half_scales(const q6_k& block, std::size_t part) {
  short both;
  std::memcpy(&both, block.part_scales + 2 * part, sizeof both);
  // Each into the upper byte of its words, then down with its sign.
  const __m256i upper = _mm256_setr_epi8(-1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0,  //
                                         -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1);
  return _mm256_srai_epi16(_mm256_shuffle_epi8(_mm256_set1_epi16(both), upper), 8);
}

/// Four bytes of each of the eight rows side by side: out[k * stride + r * 4] = rows[r][4k ...].
inline void transpose_8(const __m256i (&rows)[8], std::int8_t* out, std::size_t stride) {
  __m256i pairs[8], fours[8];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; i += 2) {  // quads of rows i, i + 1
    pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; i += 4) {  // quads k and k + 4 of rows i ... i + 3
    fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 8
  for (std::size_t k = 0; k < 4; ++k) {
    store_32(out + k * stride, _mm256_permute2x128_si256(fours[k], fours[k + 4], 0x20));
    store_32(out + (k + 4) * stride, _mm256_permute2x128_si256(fours[k], fours[k + 4], 0x31));
  }
}

}  // namespace
}  // namespace pith::kernel
