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

/// Bits [shift, ...) of each byte that are in the mask, shift at most 7.
[[gnu::always_inline]] inline Sixteen fields(const Sixteen& bytes, size_t shift, int mask) {
  Sixteen result;
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) result.rows[i] = moved_bits(bytes.rows[i], static_cast<int>(shift), mask);
  return result;
}
[[gnu::always_inline]] inline Sixteen nibbles(const Sixteen& bytes, size_t shift) { return fields(bytes, shift, 15); }

/// Bits [from, ...) of each byte moved to [to, ...), and those of the mask put above the bytes of `low`.
[[gnu::always_inline]] inline Sixteen with_upper(const Sixteen& low, const Sixteen& upper, size_t from, size_t to,
                                                 int mask) {
  const int right = static_cast<int>(from) - static_cast<int>(to);
  Sixteen result;
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) result.rows[i] = joined(low.rows[i], moved_bits(upper.rows[i], right, mask));
  return result;
}

/// with_bits() of each.
[[gnu::always_inline]] inline Sixteen with_bits(const Sixteen& low, const Sixteen& v, size_t at, int value) {
  Sixteen result;
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) result.rows[i] = with_bits(low.rows[i], v.rows[i], at, value);
  return result;
}

/// The bytes of a list at those places.
[[gnu::always_inline]] inline Sixteen looked_up(Bytes list, const Sixteen& places) {
  Sixteen result;
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) result.rows[i] = looked_up(list, places.rows[i]);
  return result;
}

/// The f16 in the upper half of each lane.
[[gnu::always_inline]] inline F upper_halves(I v) { return lower_halves(bits(v, 16, 0xffff)); }

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

/// Bytes [at, at + 16) of each row's block; and the same as words, lane r of words[k] being word k of row r.
template <Block B>
struct Piece {
  [[gnu::always_inline]] Piece(const Group<B>& group, size_t at) : bytes(load_sixteen(group.first + at, group.stride)) {
    transpose(bytes, words);
  }

  Sixteen bytes;
  I words[4];
};

/// Where all parts have one scale, an f16 at the beginning of the block.
template <Block B>
class OneScale : public PlainParts {
 public:
  explicit OneScale(const Group<B>& group) : head_(group, 0), scale_(lower_halves(head_.words[0])) {}
  F scale(size_t) const { return scale_; }

 protected:
  Piece<B> head_;

 private:
  F scale_;
};

/// And one minimum beside it, which is added: its contrary is what values are less.
template <Block B>
class OneScaleAndMin : public OneScale<B> {
 public:
  static constexpr bool has_min = true;

  explicit OneScaleAndMin(const Group<B>& group)
      : OneScale<B>(group), min_(splat(0.0f) - upper_halves(this->head_.words[0])) {}
  F min(size_t, size_t) const { return min_; }

 private:
  F min_;
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

/// Of 32 quants the lower bits, where byte i of the nibbles holds those of i (low) and i + 16 (high).
template <Block B>
[[gnu::always_inline]] inline Sixteen nibbles_of(const Group<B>& group, size_t half) {
  return nibbles(load_sixteen(group.first + offsetof(B, nibbles), group.stride), 4 * half);
}

template <>
class Parts<q4_0> : public OneScale<q4_0> {
 public:
  using OneScale::OneScale;
  static constexpr std::int32_t offset = 8;

  [[gnu::always_inline]] static Sixteen quants(const Group<q4_0>& group, size_t, size_t, size_t half) {
    return nibbles_of(group, half);
  }
};

template <>
class Parts<q4_1> : public OneScaleAndMin<q4_1> {
 public:
  using OneScaleAndMin::OneScaleAndMin;

  [[gnu::always_inline]] static Sixteen quants(const Group<q4_1>& group, size_t, size_t, size_t half) {
    return nibbles_of(group, half);
  }
};

template <>
class Parts<q5_0> : public OneScale<q5_0> {
 public:
  using OneScale::OneScale;
  static constexpr std::int32_t offset = 16;

  [[gnu::always_inline]] Sixteen quants(const Group<q5_0>& group, size_t, size_t, size_t half) const {
    return with_bits(nibbles_of(group, half), head_.bytes, offsetof(q5_0, upper) + 2 * half, 16);
  }
};

template <>
class Parts<q5_1> : public OneScaleAndMin<q5_1> {
 public:
  using OneScaleAndMin::OneScaleAndMin;

  [[gnu::always_inline]] Sixteen quants(const Group<q5_1>& group, size_t, size_t, size_t half) const {
    return with_bits(nibbles_of(group, half), head_.bytes, offsetof(q5_1, upper) + 2 * half, 16);
  }
};

/// A list of quants, as they are multiplied, in every lane of 128 bits.
template <Range range>
[[gnu::always_inline]] inline Bytes listed(const std::int8_t (&list)[16]) {
  return as_multiplied<range>(splat_lanes(list));
}

template <>
class Parts<iq4_nl> : public OneScale<iq4_nl> {
 public:
  using OneScale::OneScale;
  static constexpr Range range = Range::signed_bytes;

  [[gnu::always_inline]] static Sixteen quants(const Group<iq4_nl>& group, size_t, size_t, size_t half) {
    return looked_up(listed<range>(iq4_values), nibbles_of(group, half));
  }
};

/// The list of mxfp4 from 0 on: so its quants have five bits and no sign.
struct RaisedMxfp4 {
  static constexpr std::int32_t by = 12;
  std::int8_t values[16];
  constexpr RaisedMxfp4() : values() {
    for (size_t i = 0; i < 16; ++i) values[i] = static_cast<std::int8_t>(mxfp4_values[i] + by);
  }
};
constexpr RaisedMxfp4 raised_mxfp4;

template <>
class Parts<mxfp4> : public PlainParts {
 public:
  static constexpr std::int32_t offset = RaisedMxfp4::by;

  explicit Parts(const Group<mxfp4>& group)
      : scale_(times_power_of_2(splat(1.0f), to_floats(bits(Piece(group, 0).words[0], 0, 255)) - splat(128.0f))) {}
  F scale(size_t) const { return scale_; }

  [[gnu::always_inline]] static Sixteen quants(const Group<mxfp4>& group, size_t, size_t, size_t half) {
    return looked_up(listed<range>(raised_mxfp4.values), nibbles_of(group, half));
  }

 private:
  F scale_;
};

template <>
class Parts<iq4_xs> : public PlainParts {
 public:
  static constexpr Range range = Range::signed_bytes;

  explicit Parts(const Group<iq4_xs>& group) {
    static_assert(offsetof(iq4_xs, upper_scales) == 2 && offsetof(iq4_xs, lower_scales) == 4);
    const Piece head(group, 0);
    scale_ = lower_halves(head.words[0]);
    store(upper_, head.words[0]);
    store(lower_, head.words[1]);
  }
  /// part_scale() of all rows; the upper scales lie in the upper half of their word.
  F scale(size_t part) const {
    const I low = bits(load(lower_), 4 * part, 15), high = bits(load(upper_), 16 + 2 * part - 4, 48);
    return scale_ * to_floats(add(add(low, high), splat(std::int32_t{-32})));
  }

  [[gnu::always_inline]] static Sixteen quants(const Group<iq4_xs>& group, size_t first, size_t, size_t half) {
    const std::byte* lower = group.first + offsetof(iq4_xs, nibbles) + 16 * first;
    return looked_up(listed<range>(iq4_values), nibbles(load_sixteen(lower, group.stride), 4 * half));
  }

 private:
  F scale_;
  alignas(64) std::int32_t upper_[width], lower_[width];
};

/// Where parts have pairs of integers, as part_of() reads them.
template <Block B>
class PairedParts : public PlainParts {
 public:
  static constexpr bool has_min = true;

  explicit PairedParts(const Group<B>& group) {
    static_assert(offsetof(B, min) == 2 && offsetof(B, parts) == 4);
    const Piece head(group, 0);
    scale_ = lower_halves(head.words[0]);
    min_ = upper_halves(head.words[0]);
    for (size_t i = 0; i < 3; ++i) store(words_[i], head.words[i + 1]);
  }
  F scale(size_t part) const { return scale_ * to_floats(integers(0, part, 0)); }
  F min(size_t part, size_t) const { return min_ * to_floats(integers(1, part, 4)); }

 protected:
  /// Part 0 or 1 of those from `first` on, an even one.
  [[gnu::always_inline]] static Sixteen lower(const Group<B>& group, size_t first, size_t part, size_t half) {
    return nibbles(load_sixteen(group.first + offsetof(B, nibbles) + 16 * (first + half), group.stride), 4 * part);
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
class Parts<q4_k> : public PairedParts<q4_k> {
 public:
  using PairedParts::PairedParts;
  static constexpr size_t together = 2;

  [[gnu::always_inline]] static Sixteen quants(const Group<q4_k>& group, size_t first, size_t part, size_t half) {
    return lower(group, first, part, half);
  }
};

/// The 32 bytes whose bit p is the highest of part p's quants; in halves.
template <Block B>
struct Upper {
  explicit Upper(const Group<B>& group)
      : halves{load_sixteen(group.first + offsetof(B, upper), group.stride),
               load_sixteen(group.first + offsetof(B, upper) + 16, group.stride)} {}
  Sixteen halves[2];
};

template <>
class Parts<q5_k> : public PairedParts<q5_k> {
 public:
  static constexpr size_t together = 8;

  explicit Parts(const Group<q5_k>& group) : PairedParts(group), upper_(group) {}

  [[gnu::always_inline]] Sixteen quants(const Group<q5_k>& group, size_t, size_t part, size_t half) const {
    return with_upper(lower(group, part / 2 * 2, part % 2, half), upper_.halves[half], part, 4, 16);
  }

 private:
  Upper<q5_k> upper_;
};

/// Of the bytes that hold four parts from `first` on, the two bits of part 0 to 3 of those.
template <Block B>
[[gnu::always_inline]] inline Sixteen pairs_of(const Group<B>& group, size_t first, size_t part, size_t half) {
  return fields(load_sixteen(group.first + offsetof(B, pairs) + 8 * first + 16 * half, group.stride), 2 * part, 3);
}

template <>
class Parts<q2_k> : public PlainParts {
 public:
  static constexpr size_t together = 4;
  static constexpr bool has_min = true;
  static constexpr bool has_halves = true;

  explicit Parts(const Group<q2_k>& group) {
    static_assert(offsetof(q2_k, part_scales) == 0 && offsetof(q2_k, min) == offsetof(q2_k, scale) + 2);
    const Piece integers(group, 0), tail(group, sizeof(q2_k) - 16);
    for (size_t i = 0; i < 4; ++i) store(words_[i], integers.words[i]);
    scale_ = lower_halves(tail.words[3]);
    min_ = upper_halves(tail.words[3]);
  }
  F scale(size_t) const { return scale_; }
  F min(size_t part, size_t half) const { return min_ * to_floats(integers(part, half, 4)); }
  I half(size_t part, size_t half) const { return integers(part, half, 0); }

  [[gnu::always_inline]] static Sixteen quants(const Group<q2_k>& group, size_t first, size_t part, size_t half) {
    return pairs_of(group, first, part, half);
  }

 private:
  I integers(size_t part, size_t half, size_t shift) const {
    return bits(load(words_[part / 2]), 8 * (part % 2 * 2 + half) + shift, 15);
  }

  F scale_, min_;
  alignas(64) std::int32_t words_[4][width];  // bytes [4 i, 4 i + 4) of part_scales
};

template <>
class Parts<q3_k> : public PlainParts {
 public:
  static constexpr std::int32_t offset = 4;
  static constexpr size_t together = 8;
  static constexpr bool has_halves = true;

  explicit Parts(const Group<q3_k>& group) : upper_(group) {
    static_assert(offsetof(q3_k, part_scales) + 12 == offsetof(q3_k, scale) &&
                  sizeof(q3_k) == offsetof(q3_k, scale) + 2);
    scale_ = upper_halves(Piece(group, sizeof(q3_k) - 16).words[3]);
    // Bytes p of words 1 and 2 hold the lower bits of scales p and p + 8, those of word 3 the upper bits of p, p + 4, p
    // + 8 and p + 12, which are moved above them.
    const Piece tail(group, sizeof(q3_k) - 18);
    const I upper[2] = {multiply(tail.words[3], splat(std::int32_t{16})), tail.words[3]};
    for (size_t i = 0; i < 4; ++i)
      store(words_[i],
            add(bits(tail.words[1 + i % 2], i / 2 * 4, 0x0f0f0f0f), bits(upper[i / 2], i % 2 * 2, 0x30303030)));
  }
  F scale(size_t) const { return scale_; }
  I half(size_t part, size_t half) const {
    return add(bits(load(words_[part / 2]), 8 * (part % 2 * 2 + half), 63), splat(std::int32_t{-32}));
  }

  [[gnu::always_inline]] Sixteen quants(const Group<q3_k>& group, size_t, size_t part, size_t half) const {
    return with_upper(pairs_of(group, part / 4 * 4, part % 4, half), upper_.halves[half], part, 2, 4);
  }

 private:
  Upper<q3_k> upper_;
  F scale_;
  alignas(64) std::int32_t words_[4][width];  // four scales of each row, raised by 32
};

template <>
class Parts<q6_k> : public PlainParts {
 public:
  static constexpr std::int32_t offset = 32;
  static constexpr size_t together = 4;
  static constexpr bool has_halves = true;

  explicit Parts(const Group<q6_k>& group) {
    static_assert(offsetof(q6_k, scale) + 2 == sizeof(q6_k));
    scale_ = upper_halves(Piece(group, sizeof(q6_k) - 16).words[3]);
    const Piece integers(group, offsetof(q6_k, part_scales));
    for (size_t i = 0; i < 4; ++i) store(words_[i], integers.words[i]);
  }
  F scale(size_t) const { return scale_; }
  I half(size_t part, size_t half) const { return signed_byte(load(words_[part / 2]), part % 2 * 2 + half); }

  [[gnu::always_inline]] static Sixteen quants(const Group<q6_k>& group, size_t first, size_t part, size_t half) {
    const std::byte* lower = group.first + offsetof(q6_k, nibbles) + 16 * (first + part % 2 * 2 + half);
    const std::byte* upper = group.first + offsetof(q6_k, upper) + 8 * first + 16 * half;
    return with_upper(nibbles(load_sixteen(lower, group.stride), part / 2 * 4), load_sixteen(upper, group.stride),
                      2 * part, 4, 0x30);
  }

 private:
  F scale_;
  alignas(64) std::int32_t words_[4][width];  // bytes [4 i, 4 i + 4) of part_scales
};

}  // namespace
}  // namespace pith::kernels
