// SPDX-License-Identifier: MIT
// Weights in blocks x quantised activations in integers, for any vector vocabulary. Included inside a target region,
// after vector_rows.hpp.
//
// `width` rows at once, one per lane: the 32 products of a part are summed exactly, then
// sums = fma(integer sum, w scale * x scale, sums), part after part, and where a part has a minimum
// sums = fma(w min, -x scale * sum of x's quants, sums). One vector is multiplied with the rows as they lie; for
// several the rows are first packed so that each lane finds its next four bytes in place.
#pragma once

namespace pith::kernel {
namespace {

constexpr size_t part_values = BlockTraits<q8_activation>::values;

template <Block B>
constexpr size_t parts = BlockTraits<B>::values / part_values;
template <Block B>
constexpr bool has_min = std::is_same_v<B, q4_k>;
template <Block B>
struct Group {
  const B* at[width];
};

/// `width` rows from `first`; where there are fewer, the last again.
template <Block B>
inline Group<B> group_of(const std::byte* w, size_t w_stride, size_t first, size_t rows) {
  Group<B> result;
  for (size_t r = 0; r < width; ++r) result.at[r] = row_at<B>(w, (first + r < rows ? first + r : rows - 1) * w_stride);
  return result;
}

/// What the parts of one block of each row are scaled with.
template <Block B>
class Scales {
 public:
  Scales(const Group<B>& group, size_t block) : scale_(load_halves(group.at, block, &B::scale)) {}
  F scale(size_t) const { return scale_; }

 private:
  F scale_;
};

template <>
class Scales<q4_k> {
 public:
  Scales(const Group<q4_k>& group, size_t block)
      : scale_(load_halves(group.at, block, &q4_k::scale)), min_(load_halves(group.at, block, &q4_k::min)) {
    for (size_t r = 0; r < width; ++r)
      for (size_t i = 0; i < 3; ++i) std::memcpy(&words_[i][r], group.at[r][block].parts + 4 * i, 4);
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

inline void store_rows(float* y, F sums, size_t rows) {
  if (rows >= width) return store(y, sums);
  store_some(y, sums, rows);
}

inline F min_factor(const q8_activation& x) { return splat(-x.scale * static_cast<float>(x.sums[0] + x.sums[1])); }

template <Block B>
void multiply_one(const std::byte* w, size_t w_stride, size_t rows, const q8_activation* x, size_t blocks, float* y) {
  for (size_t r = 0; r < rows; r += width) {
    const Group<B> group = group_of<B>(w, w_stride, r, rows);
    F sums = splat(0.0f);
    for (size_t b = 0; b < blocks; ++b) {
      prefetch_after(row_at<B>(w, r * w_stride), w_stride, width, b * sizeof(B), (b + 1) * sizeof(B));
      const Scales<B> scales(group, b);
#pragma GCC unroll 1
      for (size_t part = 0; part < parts<B>; ++part) {
        const q8_activation& vector = x[b * parts<B> + part];
        const I products = part_dots(group.at, b, part, vector.quants);
        sums = fma(to_floats(products), scales.scale(part) * splat(vector.scale), sums);
        if constexpr (has_min<B>) sums = fma(scales.min(part), min_factor(vector), sums);
      }
    }
    store_rows(y + r, sums, rows - r);
  }
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
void pack(const Group<B>& group, size_t block, PackedPart<B>* out) {
  const Scales<B> scales(group, block);
#pragma GCC unroll 1
  for (size_t part = 0; part < parts<B>; ++part) {
    store(out[part].scales, scales.scale(part));
    if constexpr (has_min<B>) store(out[part].mins, scales.min(part));
    if constexpr (has_halves<B>)
      for (size_t half = 0; half < 2; ++half)
        for (size_t r = 0; r < width; ++r) out[part].halves[half][r] = group.at[r][block].part_scales[2 * part + half];
    pack_quads(group.at, block, part, out[part].quads[0][0]);
  }
}

/// products[t] += w . x[t] over the quads [begin, end).
template <size_t T, Block B>
[[gnu::always_inline]] inline void add_quads(const PackedPart<B>& w, const q8_activation* x, size_t x_stride,
                                             size_t begin, size_t end, I (&products)[T]) {
#pragma GCC unroll 1
  for (size_t k = begin; k < end; ++k) {
    const Quads quads = load_quads(w.quads[k][0]);
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
  if (tokens == 1) return multiply_one<B>(w, w_stride, rows, vectors, blocks, y);

  auto* packed = static_cast<PackedPart<B>*>(static_cast<void*>(scratch(n_parts * sizeof(PackedPart<B>))));
  for (size_t r = 0; r < rows; r += width) {
    const Group<B> group = group_of<B>(w, w_stride, r, rows);
    for (size_t b = 0; b < blocks; ++b) {
      prefetch_after(row_at<B>(w, r * w_stride), w_stride, width, b * sizeof(B), (b + 1) * sizeof(B));
      pack(group, b, packed + b * parts<B>);
    }
    packed_tiles<tile_vectors>(packed, vectors, x_stride / sizeof(q8_activation), tokens, n_parts, y + r, y_stride,
                               rows - r);
  }
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
}  // namespace pith::kernel
