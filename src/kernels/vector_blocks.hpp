// SPDX-License-Identifier: MIT
// Weights in blocks x quantised activations in integers, for any vector vocabulary. Included inside a target region,
// after vector_rows.hpp.
//
// `width` rows at once, one per lane: the 32 products of a part are summed exactly, then
// sums = fma(integer sum, w scale * x scale, sums), part after part, and where a part has a minimum
// sums = fma(w min, -x scale * sum of x's quants, sums). One vector is multiplied with the rows as they lie; for
// several the rows are first packed so that each lane finds its next four bytes in place.
#pragma once

namespace pith::kernels {
namespace {

constexpr size_t part_values = BlockTraits<q8_activation>::values;

template <Block B>
constexpr size_t parts = BlockTraits<B>::values / part_values;
template <Block B>
constexpr bool has_min = std::is_same_v<B, q4_k>;
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

// The quants of a half of part `first_part + part` of a block, as they are multiplied; first_part is a multiple of
// parts_together, those whose quants lie in the same bytes.

template <Block B>
constexpr size_t parts_together = std::is_same_v<B, q6_k>   ? 4
                                  : std::is_same_v<B, q4_k> ? 2
                                                            : 1;

[[gnu::always_inline]] inline Sixteen quants(const Group<q8_0>& group, size_t, size_t, size_t half) {
  Sixteen result = load_sixteen(group.first + offsetof(q8_0, quants) + 16 * half, group.stride);
#pragma GCC unroll 4
  for (Bytes& row : result.rows) row = as_multiplied<q8_0>(row);
  return result;
}

[[gnu::always_inline]] inline Sixteen quants(const Group<q4_0>& group, size_t, size_t, size_t half) {
  Sixteen result = load_sixteen(group.first + offsetof(q4_0, nibbles), group.stride);
#pragma GCC unroll 4
  for (Bytes& row : result.rows) row = nibbles(row, 4 * half);
  return result;
}

[[gnu::always_inline]] inline Sixteen quants(const Group<q4_k>& group, size_t first_part, size_t part, size_t half) {
  Sixteen result = load_sixteen(group.first + offsetof(q4_k, nibbles) + 16 * (first_part + half), group.stride);
#pragma GCC unroll 4
  for (Bytes& row : result.rows) row = nibbles(row, 4 * part);
  return result;
}

[[gnu::always_inline]] inline Sixteen quants(const Group<q6_k>& group, size_t first_part, size_t part, size_t half) {
  const std::byte* lower = group.first + offsetof(q6_k, nibbles) + 16 * (first_part + part % 2 * 2 + half);
  Sixteen result = load_sixteen(lower, group.stride);
  const Sixteen upper = load_sixteen(group.first + offsetof(q6_k, upper) + 8 * first_part + 16 * half, group.stride);
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i)
    result.rows[i] = joined(nibbles(result.rows[i], part / 2 * 4), upper_bits(upper.rows[i], 2 * part));
  return result;
}

/// What the parts of one block of each row are scaled with.
template <Block B>
class Scales {
 public:
  explicit Scales(const Group<B>& group) : scale_(load_halves(group.first + offsetof(B, scale), group.stride)) {}
  F scale(size_t) const { return scale_; }

 private:
  F scale_;
};

template <>
class Scales<q6_k> {
 public:
  explicit Scales(const Group<q6_k>& group) : scale_(load_halves(group.first + offsetof(q6_k, scale), group.stride)) {
    I words[4];
    transpose(load_sixteen(group.first + offsetof(q6_k, part_scales), group.stride), words);
    for (size_t i = 0; i < 4; ++i) store(words_[i], words[i]);
  }
  F scale(size_t) const { return scale_; }
  /// The integer that a half of a part is multiplied with.
  I half(size_t part, size_t half) const { return signed_byte(load(words_[part / 2]), part % 2 * 2 + half); }

 private:
  F scale_;
  alignas(64) std::int32_t words_[4][width];  // bytes [4 i, 4 i + 4) of part_scales
};

template <>
class Scales<q4_k> {
 public:
  explicit Scales(const Group<q4_k>& group) {
    static_assert(offsetof(q4_k, min) == 2 && offsetof(q4_k, parts) == 4);
    I words[4];
    transpose(load_sixteen(group.first, group.stride), words);
    scale_ = lower_halves(words[0]);
    min_ = lower_halves(bits(words[0], 16, 0xffff));
    for (size_t i = 0; i < 3; ++i) store(words_[i], words[i + 1]);
  }
  F scale(size_t part) const { return scale_ * to_floats(integers(0, part, 0)); }
  F min(size_t part) const { return min_ * to_floats(integers(1, part, 4)); }

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

/// Lane r = row r of the group . x in a part.
template <Block B>
[[gnu::always_inline]] inline I part_dots(const Group<B>& group, const Scales<B>& scales, size_t first_part,
                                          size_t part, const q8_activation& x) {
  const Sixteen w = quants(group, first_part, part, 0), w_2 = quants(group, first_part, part, 1);
  const Bytes low = splat_lanes(x.quants), high = splat_lanes(x.quants + 16);
  I dots[4];
  if constexpr (has_halves<B>) {
    I dots_2[4];
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) dots[i] = dots_of_4<B>(w.rows[i], low);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) dots_2[i] = dots_of_4<B>(w_2.rows[i], high);
    const I sums = add(splat(start_of<B>(x.sums[0])), sums_of_4(dots[0], dots[1], dots[2], dots[3]));
    const I sums_2 = add(splat(start_of<B>(x.sums[1])), sums_of_4(dots_2[0], dots_2[1], dots_2[2], dots_2[3]));
    return add(multiply(sums, scales.half(first_part + part, 0)), multiply(sums_2, scales.half(first_part + part, 1)));
  } else {
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) dots[i] = dots_of_4<B>(w.rows[i], low, w_2.rows[i], high);
    return add(splat(start_of<B>(x.sums[0] + x.sums[1])), sums_of_4(dots[0], dots[1], dots[2], dots[3]));
  }
}

inline void store_rows(float* y, F sums, size_t rows) {
  if (rows >= width) return store(y, sums);
  store_some(y, sums, rows);
}

inline F min_factor(const q8_activation& x) { return splat(-x.scale * static_cast<float>(x.sums[0] + x.sums[1])); }

template <Block B>
F dots_of_group(Group<B> group, const q8_activation* x, size_t blocks) {
  const std::byte* start = group.first;
  F sums = splat(0.0f);
  for (size_t b = 0; b < blocks; ++b, group.first += sizeof(B)) {
    const Scales<B> scales(group);
#pragma GCC unroll 1
    for (size_t first = 0; first < parts<B>; first += parts_together<B>) {
#pragma GCC unroll 4
      for (size_t i = 0; i < parts_together<B>; ++i) {
        const size_t part = b * parts<B> + first + i;
        prefetch_after(start, group.stride, width, part * sizeof(B) / parts<B>, (part + 1) * sizeof(B) / parts<B>);
        const q8_activation& vector = x[part];
        const I products = part_dots(group, scales, first, i, vector);
        sums = fma(to_floats(products), scales.scale(first + i) * splat(vector.scale), sums);
        if constexpr (has_min<B>) sums = fma(scales.min(first + i), min_factor(vector), sums);
      }
    }
  }
  return sums;
}

/// Calls f(group, first row, how many rows) for groups of `width` rows, and for each row beyond the last whole one.
template <Block B, class Function>
void for_groups(const std::byte* w, size_t w_stride, size_t rows, Function f) {
  size_t r = 0;
  for (; r + width <= rows; r += width) f(Group<B>{w + r * w_stride, w_stride}, r, width);
  for (; r < rows; ++r) f(Group<B>{w + r * w_stride, 0}, r, size_t{1});
}

/// One part of `width` rows: four bytes of each row side by side.
template <Block B>
struct alignas(64) PackedPart {
  std::int8_t quads[part_values / 4][width][4];
  float scales[width];
};

template <>
struct alignas(64) PackedPart<q4_k> {
  std::int8_t quads[part_values / 4][width][4];
  float scales[width], mins[width];
};

template <>
struct alignas(64) PackedPart<q6_k> {
  std::int8_t quads[part_values / 4][width][4];
  float scales[width];
  std::int32_t halves[2][width];
};

template <Block B>
void pack(const Group<B>& group, PackedPart<B>* out) {
  const Scales<B> scales(group);
#pragma GCC unroll 1
  for (size_t first = 0; first < parts<B>; first += parts_together<B>) {
#pragma GCC unroll 4
    for (size_t i = 0; i < parts_together<B>; ++i) {
      PackedPart<B>& part = out[first + i];
      store(part.scales, scales.scale(first + i));
      if constexpr (has_min<B>) store(part.mins, scales.min(first + i));
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; ++half) {
        if constexpr (has_halves<B>) store(part.halves[half], scales.half(first + i, half));
        I words[4];
        transpose(quants(group, first, i, half), words);
#pragma GCC unroll 4
        for (size_t k = 0; k < 4; ++k) store(part.quads[4 * half + k][0], words[k]);
      }
    }
  }
}

/// products[t] += w . x[t] over the quads [begin, end).
template <size_t T, Block B>
[[gnu::always_inline]] inline void add_quads(const PackedPart<B>& w, const q8_activation* x, size_t x_stride,
                                             size_t begin, size_t end, I (&products)[T]) {
#pragma GCC unroll 1
  for (size_t k = begin; k < end; ++k) {
    const Bytes quads = load_quads(w.quads[k][0]);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t)
      products[t] = add_dot4<B>(products[t], quads, splat_quad(x[t * x_stride].quants + 4 * k));
  }
}

/// x_stride: from one vector to the next, in parts.
template <size_t T, Block B>
void packed_tile(const PackedPart<B>* w, const q8_activation* x, size_t x_stride, size_t n_parts, float* y,
                 size_t y_stride, size_t rows) {
  constexpr size_t quads = part_values / 4;
  F sums[T];
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) sums[t] = splat(0.0f);
  for (size_t p = 0; p < n_parts; ++p, ++x, ++w) {
    I products[T];
    if constexpr (has_halves<B>) {
      I upper[T];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) {
        products[t] = splat(start_of<B>(x[t * x_stride].sums[0]));
        upper[t] = splat(start_of<B>(x[t * x_stride].sums[1]));
      }
      add_quads<T>(*w, x, x_stride, 0, quads / 2, products);
      const I low_scales = load(w->halves[0]), high_scales = load(w->halves[1]);
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) products[t] = multiply(products[t], low_scales);
      add_quads<T>(*w, x, x_stride, quads / 2, quads, upper);
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) products[t] = add(products[t], multiply(upper[t], high_scales));
    } else {
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t)
        products[t] = splat(start_of<B>(x[t * x_stride].sums[0] + x[t * x_stride].sums[1]));
      add_quads<T>(*w, x, x_stride, 0, quads, products);
    }
    const F scales = load(w->scales);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) {
      sums[t] = fma(to_floats(products[t]), scales * splat(x[t * x_stride].scale), sums[t]);
      if constexpr (has_min<B>) sums[t] = fma(load(w->mins), min_factor(x[t * x_stride]), sums[t]);
    }
  }
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) store_rows(y + t * y_stride, sums[t], rows);
}

template <size_t T, Block B>
void packed_tiles(const PackedPart<B>* w, const q8_activation* x, size_t x_stride, size_t tokens, size_t n_parts,
                  float* y, size_t y_stride, size_t rows) {
  size_t t = 0;
  for (; t + T <= tokens; t += T)
    packed_tile<T>(w, x + t * x_stride, x_stride, n_parts, y + t * y_stride, y_stride, rows);
  if constexpr (T > 1)
    packed_tiles<T / 2>(w, x + t * x_stride, x_stride, tokens - t, n_parts, y + t * y_stride, y_stride, rows);
}

template <Block B>
void matmul_blocks(const std::byte* w, size_t w_stride, size_t rows, const std::byte* x, size_t x_stride, size_t tokens,
                   size_t cols, float* y, size_t y_stride) {
  const size_t blocks = cols / BlockTraits<B>::values, n_parts = blocks * parts<B>;
  const auto* vectors = row_at<q8_activation>(x, 0);
  if (tokens == 1) {
    prefetch_first(w, rows * w_stride);
    return for_groups<B>(w, w_stride, rows, [&](const Group<B>& group, size_t first, size_t count) {
      store_rows(y + first, dots_of_group(group, vectors, blocks), count);
    });
  }

  auto* packed = static_cast<PackedPart<B>*>(static_cast<void*>(scratch(n_parts * sizeof(PackedPart<B>))));
  for_groups<B>(w, w_stride, rows, [&](Group<B> group, size_t first, size_t count) {
    const std::byte* start = group.first;
    for (size_t b = 0; b < blocks; ++b, group.first += sizeof(B)) {
      prefetch_after(start, group.stride, width, b * sizeof(B), (b + 1) * sizeof(B));
      pack(group, packed + b * parts<B>);
    }
    packed_tiles<tile_vectors>(packed, vectors, x_stride / sizeof(q8_activation), tokens, n_parts, y + first, y_stride,
                               count);
  });
}

/// The inner product of the tiles above alone, `rounds` times on what stays in the first-level cache.
size_t dot_rounds(size_t rounds) {
  static const PackedPart<q8_0> part = {};
  static const q8_activation x[tile_vectors] = {};
  I products[tile_vectors];
#pragma GCC unroll 16
  for (size_t t = 0; t < tile_vectors; ++t) products[t] = splat(std::int32_t{0});
  for (size_t i = 0; i < rounds; ++i) {
    add_quads<tile_vectors>(part, x, 1, 0, part_values / 4, products);
    asm volatile("" ::: "memory");
  }
  F sum = splat(0.0f);
#pragma GCC unroll 16
  for (size_t t = 0; t < tile_vectors; ++t) sum = sum + to_floats(products[t]);
  alignas(64) float out[width];
  store(out, sum);
  asm volatile("" ::"m"(out));
  return rounds * part_values * width * tile_vectors;
}

}  // namespace
}  // namespace pith::kernels
