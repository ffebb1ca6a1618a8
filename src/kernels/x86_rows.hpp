// SPDX-License-Identifier: MIT
// What the x86 vocabularies share: 256 bits of bytes and halves, and sums of eight lanes. Included inside a target
// region.
#pragma once

namespace pith::kernels {
namespace {

/// {sum a, sum b, sum c, sum d}
inline __m128 sums_of_8(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

/// {largest of a, of b, of c, of d}
inline __m128 largest_of_8(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 ab = _mm256_max_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const __m256 cd = _mm256_max_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256 halves = _mm256_max_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  return _mm_max_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

inline float largest_of_8(__m256 v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/// Rounded to nearest even; of what is no such number, any.
inline std::int32_t integer(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }

inline __m256i load_32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline void store_32(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

inline __m128i load_16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

inline std::int16_t sum_of_16(const std::int8_t* p) {
  const __m128i unsigned_bytes = _mm_xor_si128(load_16(p), _mm_set1_epi8(-128));
  const __m128i sums_of_8 = _mm_sad_epu8(unsigned_bytes, _mm_setzero_si128());
  return static_cast<std::int16_t>(_mm_extract_epi16(sums_of_8, 0) + _mm_extract_epi16(sums_of_8, 4) - 16 * 128);
}

/// The 16 bytes at p and at p + stride.
inline __m256i load_2_lanes(const std::byte* p, std::size_t stride) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load_16(p)), load_16(p + stride), 1);
}

/// What spreads 16 bits over 16 bytes: the two bytes that hold them, at byte `at` of 16, eight times each, and of each
/// eight the bit that is theirs.
inline __m128i two_bytes_eightfold(std::size_t at) {
  const auto first = static_cast<char>(at), second = static_cast<char>(at + 1);
  return _mm_setr_epi8(first, first, first, first, first, first, first, first,  //
                       second, second, second, second, second, second, second, second);
}
constexpr long long bit_of_each_byte = static_cast<long long>(0x8040201008040201ull);

}  // namespace
}  // namespace pith::kernels
