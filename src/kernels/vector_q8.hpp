// SPDX-License-Identifier: MIT
// q8_0 x q8_0 in integers, for any vector vocabulary. Included inside a target region, after vector_rows.hpp.
//
// `width` rows at once, one per lane: the 32 products of a block are summed exactly, then
// sums = fma(integer sum, w scale * x scale, sums), block after block. One vector is multiplied with the rows as they
// lie; for several the rows are first packed so that each lane finds its next four bytes in place.
#pragma once

namespace pith::kernel {
namespace {

constexpr size_t q8_values = BlockTraits<q8_0>::values;

/// One block of `width` rows: four bytes of each row side by side.
struct alignas(64) PackedRows {
  float scales[width];
  std::int8_t quads[q8_values / 4][width][4];
};

struct Q8Rows {
  const q8_0* at[width];
};

/// `width` rows from `first`; where there are fewer, the last again.
inline Q8Rows q8_rows(const std::byte* w, size_t w_stride, size_t first, size_t rows) {
  Q8Rows result;
  for (size_t r = 0; r < width; ++r)
    result.at[r] = row_at<q8_0>(w, (first + r < rows ? first + r : rows - 1) * w_stride);
  return result;
}

inline void store_rows(float* y, F sums, size_t rows) {
  if (rows >= width) return store(y, sums);
  store_some(y, sums, rows);
}

void multiply_one(const std::byte* w, size_t w_stride, size_t rows, const q8_activation* x, size_t blocks, float* y) {
  for (size_t r = 0; r < rows; r += width) {
    const Q8Rows group = q8_rows(w, w_stride, r, rows);
    F sums = splat(0.0f);
    for (size_t b = 0; b < blocks; ++b) {
      prefetch_after(row_at<q8_0>(w, r * w_stride), w_stride, width, b * sizeof(q8_0), (b + 1) * sizeof(q8_0));
      sums = fma(to_floats(block_dots(group.at, b, x[b].quants)), load_scales(group.at, b) * splat(x[b].scale), sums);
    }
    store_rows(y + r, sums, rows - r);
  }
}

template <size_t T>
void packed_tile(const PackedRows* w, const q8_activation* x, size_t blocks, float* y, size_t y_stride, size_t rows) {
  F sums[T];
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) sums[t] = splat(0.0f);
  for (size_t b = 0; b < blocks; ++b) {
    I products[T];
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) products[t] = splat(start_of(x[t * blocks + b].sum));
#pragma GCC unroll 1
    for (size_t k = 0; k < q8_values / 4; ++k) {
      const Quads quads = load_quads(w[b].quads[k][0]);
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t)
        products[t] = add_dot4(products[t], quads, splat_quad(x[t * blocks + b].quants + 4 * k));
    }
    const F scales = load(w[b].scales);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t)
      sums[t] = fma(to_floats(products[t]), scales * splat(x[t * blocks + b].scale), sums[t]);
  }
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) store_rows(y + t * y_stride, sums[t], rows);
}

template <size_t T>
void packed_tiles(const PackedRows* w, const q8_activation* x, size_t tokens, size_t blocks, float* y, size_t y_stride,
                  size_t rows) {
  size_t t = 0;
  for (; t + T <= tokens; t += T) packed_tile<T>(w, x + t * blocks, blocks, y + t * y_stride, y_stride, rows);
  if constexpr (T > 1) packed_tiles<T / 2>(w, x + t * blocks, tokens - t, blocks, y + t * y_stride, y_stride, rows);
}

template <>
void matmul<q8_0>(const std::byte* w, size_t w_stride, size_t rows, const std::byte* x,
                  [[maybe_unused]] size_t x_stride, size_t tokens, size_t cols, float* y, size_t y_stride) {
  const size_t blocks = cols / q8_values;
  const auto* vectors = row_at<q8_activation>(x, 0);
  assert(tokens == 1 || x_stride == blocks * sizeof(q8_activation));
  if (tokens == 1) return multiply_one(w, w_stride, rows, vectors, blocks, y);

  auto* packed_rows = static_cast<PackedRows*>(static_cast<void*>(scratch(blocks * sizeof(PackedRows))));
  for (size_t r = 0; r < rows; r += width) {
    const Q8Rows group = q8_rows(w, w_stride, r, rows);
    for (size_t b = 0; b < blocks; ++b) {
      prefetch_after(row_at<q8_0>(w, r * w_stride), w_stride, width, b * sizeof(q8_0), (b + 1) * sizeof(q8_0));
      store(packed_rows[b].scales, load_scales(group.at, b));
      pack_quads(group.at, b, packed_rows[b].quads[0][0]);
    }
    packed_tiles<tile_vectors>(packed_rows, vectors, tokens, blocks, y + r, y_stride, rows - r);
  }
}

}  // namespace
}  // namespace pith::kernel
