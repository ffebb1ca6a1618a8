// SPDX-License-Identifier: MIT
// How weights in blocks are loaded, format by format: all that their kernels must know of one. Included inside a target
// region, after vector_rows.hpp.
//
// A block is parts of 32 values, each the product of a scale and a quant, less a minimum where the format has those;
// halves of a part may have integer scales of their own. `width` rows are at hand at once.
#pragma once

namespace pith::kernels {
namespace {

constexpr size_t part_values = BlockTraits<q8_activation>::values;

/// Blocks of `width` rows, one below the other.
template <Block B>
struct Group {
  const std::byte* first;
  size_t stride;  // bytes; 0: the same row in every lane
};

/// 16 bytes of each row. Row 4 l + i is lane l, of 128 bits, of vector i, so that sums_of_4 and transpose_4 give the
/// rows in order.
struct Sixteen {
  Bytes rows[4];
};

[[gnu::always_inline]] inline Sixteen load_sixteen(const std::byte* first, size_t stride) {
  Sixteen result;
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) result.rows[i] = load_lanes(first + i * stride, 4 * stride);
  return result;
}

[[gnu::always_inline]] inline void transpose(const Sixteen& bytes, I (&words)[4]) {
  transpose_4(bytes.rows[0], bytes.rows[1], bytes.rows[2], bytes.rows[3], words);
}

/// Bits [shift, shift + 4) of each byte; shift is 0 or 4.
[[gnu::always_inline]] inline Sixteen nibbles(const Sixteen& bytes, size_t shift) {
  Sixteen result;
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) result.rows[i] = moved_bits(bytes.rows[i], static_cast<int>(shift), 15);
  return result;
}

/// Bits [from, ...) of each byte moved to [to, ...), and those of the mask put above the bytes of `low`.
[[gnu::always_inline]] inline Sixteen with_upper(const Sixteen& low, const Sixteen& upper, size_t from, size_t to,
                                                 int mask) {
  const int right = static_cast<int>(from) - static_cast<int>(to);
  Sixteen result;
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) result.rows[i] = joined(low.rows[i], moved_bits(upper.rows[i], right, mask));
  return result;
}

/// What a format is unless it says otherwise.
struct PlainParts {
  static constexpr Range range = Range::six_bits;  // of quants
  static constexpr std::int32_t offset = 0;        // how much more than its value a quant is
  static constexpr size_t together = 1;            // parts whose quants lie in the same bytes
  static constexpr bool has_min = false;           // a minimum for each part (or half, where those have scales)
  static constexpr bool has_halves = false;        // an integer scale for each half
};

/// One block of each row, its scales loaded:
///   scale(part): of part `part` of the block; min(part, half): the same, or its half's where halves have integer
///   scales; half(part, half): the integer that a half is multiplied with; quants(group, first, part, half): 16 quants
///   of part first + part, where first is a multiple of `together`.
template <Block B>
class Parts;

/// Where all parts have one scale, an f16.
template <Block B>
class OneScale : public PlainParts {
 public:
  explicit OneScale(const Group<B>& group) : scale_(load_halves(group.first + offsetof(B, scale), group.stride)) {}
  F scale(size_t) const { return scale_; }

 private:
  F scale_;
};

template <>
class Parts<q8_0> : public OneScale<q8_0> {
 public:
  using OneScale::OneScale;
  static constexpr Range range = Range::signed_bytes;

  [[gnu::always_inline]] static Sixteen quants(const Group<q8_0>& group, size_t, size_t, size_t half) {
    Sixteen result = load_sixteen(group.first + offsetof(q8_0, quants) + 16 * half, group.stride);
#pragma GCC unroll 4
    for (Bytes& row : result.rows) row = as_multiplied<range>(row);
    return result;
  }
};

template <>
class Parts<q4_0> : public OneScale<q4_0> {
 public:
  using OneScale::OneScale;
  static constexpr std::int32_t offset = 8;

  [[gnu::always_inline]] static Sixteen quants(const Group<q4_0>& group, size_t, size_t, size_t half) {
    return nibbles(load_sixteen(group.first + offsetof(q4_0, nibbles), group.stride), 4 * half);
  }
};

template <>
class Parts<q4_k> : public PlainParts {
 public:
  static constexpr size_t together = 2;
  static constexpr bool has_min = true;

  explicit Parts(const Group<q4_k>& group) {
    static_assert(offsetof(q4_k, min) == 2 && offsetof(q4_k, parts) == 4);
    I words[4];
    transpose(load_sixteen(group.first, group.stride), words);
    scale_ = lower_halves(words[0]);
    min_ = lower_halves(bits(words[0], 16, 0xffff));
    for (size_t i = 0; i < 3; ++i) store(words_[i], words[i + 1]);
  }
  F scale(size_t part) const { return scale_ * to_floats(integers(0, part, 0)); }
  F min(size_t part, size_t) const { return min_ * to_floats(integers(1, part, 4)); }

  [[gnu::always_inline]] static Sixteen quants(const Group<q4_k>& group, size_t first, size_t part, size_t half) {
    return nibbles(load_sixteen(group.first + offsetof(q4_k, nibbles) + 16 * (first + half), group.stride), 4 * part);
  }

 private:
  /// part_of() of all rows: word 0 holds the scales of the first four parts, word 1 their minima, word 2 what of the
  /// others is not above those.
  I integers(size_t word, size_t part, size_t shift) const {
    const I first = load(words_[word]);
    if (part < 4) return bits(first, 8 * part, 63);
    return add(bits(load(words_[2]), 8 * (part - 4) + shift, 15), bits(first, 8 * (part - 4) + 2, 48));
  }

  F scale_, min_;
  alignas(64) std::int32_t words_[3][width];
};

template <>
class Parts<q6_k> : public OneScale<q6_k> {
 public:
  static constexpr std::int32_t offset = 32;
  static constexpr size_t together = 4;
  static constexpr bool has_halves = true;

  explicit Parts(const Group<q6_k>& group) : OneScale(group) {
    I words[4];
    transpose(load_sixteen(group.first + offsetof(q6_k, part_scales), group.stride), words);
    for (size_t i = 0; i < 4; ++i) store(words_[i], words[i]);
  }
  I half(size_t part, size_t half) const { return signed_byte(load(words_[part / 2]), part % 2 * 2 + half); }

  [[gnu::always_inline]] static Sixteen quants(const Group<q6_k>& group, size_t first, size_t part, size_t half) {
    const std::byte* lower = group.first + offsetof(q6_k, nibbles) + 16 * (first + part % 2 * 2 + half);
    const std::byte* upper = group.first + offsetof(q6_k, upper) + 8 * first + 16 * half;
    return with_upper(nibbles(load_sixteen(lower, group.stride), part / 2 * 4), load_sixteen(upper, group.stride),
                      2 * part, 4, 0x30);
  }

 private:
  alignas(64) std::int32_t words_[4][width];  // bytes [4 i, 4 i + 4) of part_scales
};

}  // namespace
}  // namespace pith::kernels
