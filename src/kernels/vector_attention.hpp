// SPDX-License-Identifier: MIT
// Many queries against the rows of a page, for any vector vocabulary. Included inside a target region, after
// vector_rows.hpp and vector_math.hpp.
//
// Queries lie side by side in lanes, so that neither a product nor a softmax ever sums across a vector.
#pragma once

namespace pith::kernels {
namespace {

/// A whole vector, or the first n numbers of one.
struct Whole {
  F get(const float* p) const { return load(p); }
  void put(float* p, F v) const { store(p, v); }
};
struct Some {
  size_t n;
  F get(const float* p) const { return load_some(p, n); }
  void put(float* p, F v) const { store_some(p, v, n); }
};

/// c[i][0 .. V * width) += sum_k a[i * a_row + k * a_col] b[k][the same columns] for R rows.
template <size_t R, size_t V, class Part>
inline void outer_patch(const float* a, size_t a_row, size_t a_col, const float* b, size_t b_stride, size_t depth,
                        float* c, size_t c_stride, Part part) {
  F sums[R][V];
#pragma GCC unroll 16
  for (size_t i = 0; i < R; ++i) {
#pragma GCC unroll 16
    for (size_t v = 0; v < V; ++v) sums[i][v] = part.get(c + i * c_stride + v * width);
  }
  for (size_t k = 0; k < depth; ++k) {
    F in[V];
#pragma GCC unroll 16
    for (size_t v = 0; v < V; ++v) in[v] = part.get(b + k * b_stride + v * width);
#pragma GCC unroll 16
    for (size_t i = 0; i < R; ++i) {
      const F factor = splat(a[i * a_row + k * a_col]);
#pragma GCC unroll 16
      for (size_t v = 0; v < V; ++v) sums[i][v] = fma(factor, in[v], sums[i][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < R; ++i) {
#pragma GCC unroll 16
    for (size_t v = 0; v < V; ++v) part.put(c + i * c_stride + v * width, sums[i][v]);
  }
}

/// R rows at a time, then what is left in ever fewer.
template <size_t R, size_t V, class Part>
inline void outer_rows(const float* a, size_t a_row, size_t a_col, const float* b, size_t b_stride, size_t rows,
                       size_t depth, float* c, size_t c_stride, Part part) {
  size_t i = 0;
  for (; i + R <= rows; i += R)
    outer_patch<R, V>(a + i * a_row, a_row, a_col, b, b_stride, depth, c + i * c_stride, c_stride, part);
  if constexpr (R > 1)
    outer_rows<(R > 2 ? R - 2 : 1), V>(a + i * a_row, a_row, a_col, b, b_stride, rows - i, depth, c + i * c_stride,
                                       c_stride, part);
}

void add_product(const float* a, size_t a_row, size_t a_col, const float* b, size_t b_stride, size_t rows, size_t depth,
                 size_t cols, float* c, size_t c_stride) {
  size_t j = 0;
  for (; j + outer_vectors * width <= cols; j += outer_vectors * width)
    outer_rows<outer_height, outer_vectors>(a, a_row, a_col, b + j, b_stride, rows, depth, c + j, c_stride, Whole{});
  for (; j + width <= cols; j += width)
    outer_rows<outer_height, 1>(a, a_row, a_col, b + j, b_stride, rows, depth, c + j, c_stride, Whole{});
  if (j < cols)
    outer_rows<outer_height, 1>(a, a_row, a_col, b + j, b_stride, rows, depth, c + j, c_stride, Some{cols - j});
}

/// absorb() for as many columns as Part has.
template <class Part>
inline void absorb_columns(float* scores, size_t stride, size_t rows, float* maximum, float* weight, float* shrink,
                           Part part) {
  const F before = part.get(maximum);
  F most = before;
  for (size_t j = 0; j < rows; ++j) most = max(most, part.get(scores + j * stride));
  // Not -infinity, where nothing is seen yet: -infinity less itself is no number.
  const F shift = max(most, splat(std::numeric_limits<float>::lowest()));
  const F factor = exp(before - shift);
  F sums = part.get(weight) * factor;
  for (size_t j = 0; j < rows; ++j) {
    const F e = exp(part.get(scores + j * stride) - shift);
    part.put(scores + j * stride, e);
    sums = sums + e;
  }
  part.put(maximum, most);
  part.put(weight, sums);
  part.put(shrink, factor);
}

void absorb(float* scores, size_t stride, size_t rows, size_t queries, float* maximum, float* weight, float* shrink) {
  size_t q = 0;
  for (; q + width <= queries; q += width)
    absorb_columns(scores + q, stride, rows, maximum + q, weight + q, shrink + q, Whole{});
  if (q < queries) absorb_columns(scores + q, stride, rows, maximum + q, weight + q, shrink + q, Some{queries - q});
}

/// absorb_rows() of n queries, four or fewer.
template <size_t n>
inline void absorb_some_rows(float* scores, float* maximum, float* weight, float* shrink) {
  constexpr size_t vectors = tile_rows / width;
  F values[n][vectors], most[n], totals[n];
#pragma GCC unroll 4
  for (size_t q = 0; q < n; ++q) {
#pragma GCC unroll 16
    for (size_t v = 0; v < vectors; ++v) {
      values[q][v] = load(scores + q * tile_rows + v * width);
      most[q] = v == 0 ? values[q][v] : max(most[q], values[q][v]);
    }
  }
  float tops[4], sums[4], shifts[4];
  store_largest(tops, most[0], most[1 % n], most[2 % n], most[3 % n]);
  static_assert(width >= 4);
  alignas(64) float factors[width] = {};
  for (size_t q = 0; q < n; ++q) {
    const float before = maximum[q];
    maximum[q] = before < tops[q] ? tops[q] : before;
    // Not -infinity, where nothing is seen yet: -infinity less itself is no number.
    constexpr float lowest = std::numeric_limits<float>::lowest();
    shifts[q] = maximum[q] < lowest ? lowest : maximum[q];
    factors[q] = before - shifts[q];
  }
  store(factors, exp(load(factors)));
#pragma GCC unroll 4
  for (size_t q = 0; q < n; ++q) {
#pragma GCC unroll 16
    for (size_t v = 0; v < vectors; ++v) {
      const F e = exp(values[q][v] - splat(shifts[q]));
      store(scores + q * tile_rows + v * width, e);
      totals[q] = v == 0 ? e : totals[q] + e;
    }
  }
  store_sums(sums, totals[0], totals[1 % n], totals[2 % n], totals[3 % n]);
  for (size_t q = 0; q < n; ++q) {
    shrink[q] = factors[q];
    weight[q] = weight[q] * factors[q] + sums[q];
  }
}

void absorb_rows(float* scores, size_t rows, size_t queries, float* maximum, float* weight, float* shrink) {
  for (size_t q = 0; q < queries; ++q)
    for (size_t j = rows; j < tile_rows; ++j) scores[q * tile_rows + j] = -std::numeric_limits<float>::infinity();
  for (; queries >= 4; queries -= 4, scores += 4 * tile_rows, maximum += 4, weight += 4, shrink += 4)
    absorb_some_rows<4>(scores, maximum, weight, shrink);
  if (queries == 3) absorb_some_rows<3>(scores, maximum, weight, shrink);
  if (queries == 2) absorb_some_rows<2>(scores, maximum, weight, shrink);
  if (queries == 1) absorb_some_rows<1>(scores, maximum, weight, shrink);
}

}  // namespace
}  // namespace pith::kernels
