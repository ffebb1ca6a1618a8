// SPDX-License-Identifier: MIT
// The words that kernels are written in: what each means, and its plain twin. avx2.cpp, avx512.cpp and neon.cpp define
// the same words by instructions; vocabulary_check.hpp tells what one of them lacks.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/plain_rows.hpp"
#include "pith/tensor/format.hpp"
#include "pith/tensor/panel.hpp"

namespace pith::kernels {

/// What the bytes are that a block's quants become: 0 to 63, or -128 to 127.
enum class Range { six_bits, signed_bytes };

namespace {
namespace twin {

// Vectors: F holds `width` floats, its lanes; I as many 32-bit integers; Bytes 4 * width bytes, in lanes of 16 (of 128
// bits), of which a row of weights in blocks has one.

constexpr std::size_t width = 4;
struct F {
  float lanes[width];
};
struct I {
  std::int32_t lanes[width];
};
struct Bytes {
  std::uint8_t bytes[4 * width];
};

// How many outputs are computed at once, as many as registers allow.

constexpr std::size_t patch_tokens = 2;    // vectors that a patch of four or eight rows of numbers multiplies with
constexpr std::size_t patch_vectors = 2;   // the same for a patch of packed rows of bytes
constexpr std::size_t patch_groups = 1;    // of `width` of those rows, which such a patch takes at once
constexpr std::size_t quad_unroll = 1;     // turns of the loop over their bytes
constexpr std::size_t outer_height = 2;    // sums of a patch of outer products: rows
constexpr std::size_t outer_vectors = 2;   // and vectors
constexpr std::size_t square_queries = 2;  // that a square is multiplied with together
constexpr std::size_t strip = 2;           // vectors of its lanes
constexpr std::size_t panel_height = 2;    // sums of a patch of a product of panels: rows, which 32 is a multiple of
constexpr std::size_t panel_vectors = 2;   // and vectors of queries, which 32 is a multiple of
constexpr std::size_t panel_unroll = 1;    // turns of the loop over what is summed
constexpr std::size_t square_unroll = 1;   // turns of the loop over its quants

/// {f(0), ..., f(width - 1)}: no word, what those below are said with.
template <class Function>
inline F each_float(Function f) {
  F out;
  for (std::size_t l = 0; l < width; ++l) out.lanes[l] = f(l);
  return out;
}
template <class Function>
inline I each_integer(Function f) {
  I out;
  for (std::size_t l = 0; l < width; ++l) out.lanes[l] = f(l);
  return out;
}
template <class Function>
inline Bytes each_byte(Function f) {
  Bytes out;
  for (std::size_t i = 0; i < 4 * width; ++i) out.bytes[i] = static_cast<std::uint8_t>(f(i));
  return out;
}

// Numbers.

inline F operator+(F a, F b) {
  return each_float([&](std::size_t l) { return a.lanes[l] + b.lanes[l]; });
}
inline F operator-(F a, F b) {
  return each_float([&](std::size_t l) { return a.lanes[l] - b.lanes[l]; });
}
inline F operator*(F a, F b) {
  return each_float([&](std::size_t l) { return a.lanes[l] * b.lanes[l]; });
}
inline F operator/(F a, F b) {
  return each_float([&](std::size_t l) { return a.lanes[l] / b.lanes[l]; });
}

/// x in every lane.
inline F splat(float x) {
  return each_float([&](std::size_t) { return x; });
}
inline F splat(f16 x) { return splat(to_float(x)); }
inline I splat(std::int32_t x) {
  return each_integer([&](std::size_t) { return x; });
}

/// Lane l = p[l], as a float; at any address.
inline F load(const float* p) {
  return each_float([&](std::size_t l) { return p[l]; });
}
inline F load(const f16* p) {
  return each_float([&](std::size_t l) { return to_float(p[l]); });
}
inline F load(const bf16* p) {
  return each_float([&](std::size_t l) { return to_float(p[l]); });
}
inline F load(const std::int8_t* p) {
  return each_float([&](std::size_t l) { return static_cast<float>(p[l]); });
}

/// p[l] = lane l, rounded as to_f16 and to_bf16 do.
inline void store(float* p, F v) {
  for (std::size_t l = 0; l < width; ++l) p[l] = v.lanes[l];
}
inline void store(f16* p, F v) {
  for (std::size_t l = 0; l < width; ++l) p[l] = to_f16(v.lanes[l]);
}
inline void store(bf16* p, F v) {
  for (std::size_t l = 0; l < width; ++l) p[l] = to_bf16(v.lanes[l]);
}
/// p[l] = lane l to the nearest whole number, ties to even.
inline void store_rounded(std::int8_t* p, F v) {
  for (std::size_t l = 0; l < width; ++l)
    p[l] = static_cast<std::int8_t>(std::fmin(std::fmax(std::nearbyint(v.lanes[l]), -128.0f), 127.0f));
}

/// a b + c, rounded once.
inline F fma(F a, F b, F c) {
  return each_float([&](std::size_t l) { return std::fma(a.lanes[l], b.lanes[l], c.lanes[l]); });
}
/// The larger, and the smaller; where either is no number, b (Arm: neither a number).
inline F max(F a, F b) {
  return each_float([&](std::size_t l) { return a.lanes[l] > b.lanes[l] ? a.lanes[l] : b.lanes[l]; });
}
inline F min(F a, F b) {
  return each_float([&](std::size_t l) { return a.lanes[l] < b.lanes[l] ? a.lanes[l] : b.lanes[l]; });
}
inline F abs(F v) {
  return each_float([&](std::size_t l) { return std::fabs(v.lanes[l]); });
}
inline F copy_sign(F magnitude, F sign) {
  return each_float([&](std::size_t l) { return std::copysign(magnitude.lanes[l], sign.lanes[l]); });
}
/// To the nearest whole number, ties to even.
inline F round(F v) {
  return each_float([&](std::size_t l) { return std::nearbyint(v.lanes[l]); });
}
/// v 2^n for whole n of [-160, 160].
inline F times_power_of_2(F v, F n) {
  return each_float([&](std::size_t l) {
    return std::ldexp(v.lanes[l], n.lanes[l] == n.lanes[l] ? static_cast<int>(n.lanes[l]) : 0);
  });
}
/// The same where 2^n is a normal number.
inline F times_normal_power_of_2(F v, F n) { return times_power_of_2(v, n); }
inline F to_floats(I v) {
  return each_float([&](std::size_t l) { return static_cast<float>(v.lanes[l]); });
}

// Across lanes. Additions are in pairs, which all sets of instructions that have as many lanes do alike.

inline float sum(F v) { return (v.lanes[0] + v.lanes[1]) + (v.lanes[2] + v.lanes[3]); }
/// p[0] = sum a, ..., p[3] = sum d.
inline void store_sums(float* p, F a, F b, F c, F d) {
  const F each[] = {a, b, c, d};
  for (std::size_t i = 0; i < 4; ++i) p[i] = sum(each[i]);
}
inline float largest(F v) {
  float most = v.lanes[0];
  for (const float x : v.lanes) most = x > most ? x : most;
  return most;
}
/// The same of the largest lanes.
inline void store_largest(float* p, F a, F b, F c, F d) {
  const F each[] = {a, b, c, d};
  for (std::size_t i = 0; i < 4; ++i) p[i] = largest(each[i]);
}

/// Lane l = that of v whose number differs from l in the one bit `apart`, a power of two below `width`.
template <std::size_t apart>
inline F swapped(F v) {
  return each_float([&](std::size_t l) { return v.lanes[l ^ apart]; });
}

// Weights in blocks (block_parts.hpp): `width` rows at once.

/// The f16 in the lower half of each lane.
inline F lower_halves(I v) {
  return each_float([&](std::size_t l) { return to_float(f16{static_cast<std::uint16_t>(v.lanes[l])}); });
}
/// Lane l of 128 bits = the 16 bytes at p + l * stride.
inline Bytes load_lanes(const std::byte* p, std::size_t stride) {
  return each_byte([&](std::size_t i) { return p[i / 16 * stride + i % 16]; });
}
/// Those at p in every lane of 128 bits.
inline Bytes splat_lanes(const std::int8_t* p) {
  return each_byte([&](std::size_t i) { return p[i % 16]; });
}
/// Each byte moved to the right by -4 to 7 bits, of which those in the mask are kept: none that came from another byte.
inline Bytes moved_bits(Bytes v, int right, int mask) {
  return each_byte([&](std::size_t i) { return (right < 0 ? v.bytes[i] << -right : v.bytes[i] >> right) & mask; });
}
inline Bytes joined(Bytes a, Bytes b) {
  return each_byte([&](std::size_t i) { return a.bytes[i] | b.bytes[i]; });
}
/// Byte i of each lane of 128 bits, and `value` besides where bit i of the 16 from byte `at` of v's lane on is set; no
/// byte of `low` has bits of the value.
inline Bytes with_bits(Bytes low, Bytes v, std::size_t at, int value) {
  return each_byte([&](std::size_t i) {
    const std::size_t lane = i / 16 * 16, bit = i % 16;
    return low.bytes[i] | ((v.bytes[lane + at + bit / 8] >> bit % 8 & 1) != 0 ? value : 0);
  });
}
/// Byte i = that of the lane of 128 bits of `table` whose place, 0 to 15, `places` has there.
inline Bytes looked_up(Bytes table, Bytes places) {
  return each_byte([&](std::size_t i) { return table.bytes[i / 16 * 16 + places.bytes[i]]; });
}
/// words[k] = of each lane of 128 bits, words {a[k], b[k], c[k], d[k]}.
inline void transpose_4(Bytes a, Bytes b, Bytes c, Bytes d, I (&words)[4]) {
  const Bytes each[] = {a, b, c, d};
  for (std::size_t k = 0; k < 4; ++k)
    words[k] = each_integer([&](std::size_t l) { return word_at(&each[l % 4].bytes[l / 4 * 16 + 4 * k]); });
}
/// Of each lane of 128 bits, {sum a, sum b, sum c, sum d} of its four integers.
inline I sums_of_4(I a, I b, I c, I d) {
  const I each[] = {a, b, c, d};
  return each_integer([&](std::size_t l) {
    const std::int32_t* four = &each[l % 4].lanes[l / 4 * 4];
    return four[0] + four[1] + four[2] + four[3];
  });
}

/// Quants as they are multiplied, and how much that adds to each: what multiplies bytes with a sign may want them
/// without.
template <Range range>
inline Bytes as_multiplied(Bytes quants) {
  return quants;
}
template <Range range>
constexpr std::int32_t raised = 0;
/// Lane l = the sum of the products of its four bytes, those of x with a sign.
template <Range range>
inline I dots_of_4(Bytes w, Bytes x) {
  return each_integer([&](std::size_t l) {
    std::int32_t result = 0;
    for (std::size_t i = 4 * l; i < 4 * l + 4; ++i)
      result += (range == Range::six_bits ? w.bytes[i] : static_cast<std::int8_t>(w.bytes[i])) *
                static_cast<std::int8_t>(x.bytes[i]);
    return result;
  });
}
/// dots_of_4(w, x) + dots_of_4(w_2, x_2)
template <Range range>
inline I dots_of_4(Bytes w, Bytes x, Bytes w_2, Bytes x_2) {
  return each_integer(
      [&](std::size_t l) { return dots_of_4<range>(w, x).lanes[l] + dots_of_4<range>(w_2, x_2).lanes[l]; });
}
/// sums + dots_of_4(w, x)
template <Range range>
inline I add_dot4(I sums, Bytes w, Bytes x) {
  return each_integer([&](std::size_t l) { return sums.lanes[l] + dots_of_4<range>(w, x).lanes[l]; });
}

inline I load(const std::int32_t* p) {
  return each_integer([&](std::size_t l) { return p[l]; });
}
inline void store(std::int32_t* p, I v) {
  for (std::size_t l = 0; l < width; ++l) p[l] = v.lanes[l];
}
/// Sums and products beyond 32 bits wrap, as instructions do.
inline I add(I a, I b) {
  return each_integer([&](std::size_t l) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lanes[l]) + static_cast<std::uint32_t>(b.lanes[l]));
  });
}
inline I multiply(I a, I b) {
  return each_integer([&](std::size_t l) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lanes[l]) * static_cast<std::uint32_t>(b.lanes[l]));
  });
}
/// Byte `index` of each lane, with its sign.
inline I signed_byte(I v, std::size_t index) {
  return each_integer([&](std::size_t l) { return static_cast<std::int8_t>(v.lanes[l] >> (8 * index)); });
}
/// Bits [shift, ...) of each lane that are in the mask.
inline I bits(I v, std::size_t shift, std::int32_t mask) {
  return each_integer(
      [&](std::size_t l) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(v.lanes[l]) >> shift) & mask; });
}

/// Four bytes for each lane, to and from memory, and one four for all.
inline Bytes load_quads(const std::int8_t* p) {
  return each_byte([&](std::size_t i) { return p[i]; });
}
inline void store(std::int8_t* p, I quads) { std::memcpy(p, quads.lanes, sizeof quads.lanes); }
inline Bytes splat_quad(const std::int8_t* p) {
  return each_byte([&](std::size_t i) { return p[i % 4]; });
}

// Cached rows in squares of bytes (vector_quants.hpp).

/// Four numbers of 16 bits that four bytes are multiplied with, as memory holds them and for all lanes; and four bytes
/// for each lane. In whatever order the instructions like.
struct Quad {
  std::int16_t numbers[4];
};
using QuadFactors = Quad;
struct Quants {
  std::uint8_t bytes[width][4];
};
inline I rounded(F v) {
  return each_integer([&](std::size_t l) {
    constexpr float beyond = 2147483648.0f;
    return std::fabs(v.lanes[l]) < beyond ? static_cast<std::int32_t>(std::nearbyint(v.lanes[l]))
                                          : std::numeric_limits<std::int32_t>::min();
  });
}
/// Rounded to nearest even; of what is no such number, any.
inline std::int32_t integer(float x) { return rounded(splat(x)).lanes[0]; }
/// 32 numbers of at most 127 * 256.
inline void store_quads(Quad* p, const I (&numbers)[32 / width]) {
  for (std::size_t i = 0; i < 32; ++i)
    p[i / 4].numbers[i % 4] = static_cast<std::int16_t>(numbers[i / width].lanes[i % width]);
}
inline QuadFactors splat(const Quad& quad) { return quad; }
inline Quants load_quants(const std::uint8_t* p) {
  Quants quants;
  std::memcpy(quants.bytes, p, sizeof quants.bytes);
  return quants;
}
/// The same of the low four bits of bytes, or the high ones.
template <bool high>
inline Quants load_nibbles(const std::uint8_t* p) {
  Quants quants = load_quants(p);
  for (auto& four : quants.bytes)
    for (std::uint8_t& byte : four) byte = static_cast<std::uint8_t>(high ? byte >> 4 : byte & 15);
  return quants;
}
/// Lane l of total(add_first(a, quants, x), add_second(b, quants, x)) is by sum quants[l] x more than that of
/// total(a, b): a product in two sums, of which one may be nothing.
inline I add_first(I sums, const Quants& quants, const QuadFactors& x) {
  return each_integer([&](std::size_t l) {
    std::int32_t result = sums.lanes[l];
    for (std::size_t i = 0; i < 4; ++i) result += quants.bytes[l][i] * x.numbers[i];
    return result;
  });
}
inline I add_second(I sums, const Quants&, const QuadFactors&) { return sums; }
inline I total(I first, I) { return first; }

// Panels (vector_panels.hpp).

/// Lane l = the lower 16 bits of first[l] and, above them, those of second[l].
inline I pairs(I first, I second) {
  return each_integer([&](std::size_t l) { return pair_of(first.lanes[l], second.lanes[l]); });
}
/// Lane l of sums, and the products of both pairs of 16 bits.
inline I add_pair_products(I sums, I a, I b) {
  return each_integer([&](std::size_t l) {
    return sums.lanes[l] + first_of(a.lanes[l]) * first_of(b.lanes[l]) + second_of(a.lanes[l]) * second_of(b.lanes[l]);
  });
}

/// Of 16 bytes.
inline std::int16_t sum_of_16(const std::int8_t* p) {
  int result = 0;
  for (std::size_t i = 0; i < 16; ++i) result += p[i];
  return static_cast<std::int16_t>(result);
}

}  // namespace twin
}  // namespace
}  // namespace pith::kernels
