// SPDX-License-Identifier: MIT
// Attention over tiles of squares in integers, for any vector vocabulary. Included inside a target region, after
// vector_blocks.hpp.
//
// Bytes are multiplied with numbers of 16 bits: queries, and weights times the scales of the rows they weigh, are
// rounded to 2^-16 of the largest in their block. Sums of products of integers are exact, so nothing depends on their
// order. Keys with queries and values with weights are the same product of a square, whose lanes are rows or columns.
#pragma once

namespace pith::kernels {
namespace {

constexpr size_t block_size = 32;  // of every square
constexpr size_t block_vectors = block_size / width;
constexpr float largest_factor = 127 * 256;  // what two signed bytes hold

/// 32 numbers that quants are multiplied with: step times whole numbers.
struct Factors {
  float step;
  std::int32_t offset;  // of a sum of products, as quants are raised by `middle`
  Quad quads[block_size / 4];
};
static_assert(sizeof(Factors) <= block_size * sizeof(float));  // a query's take the place of its floats

/// factors[i] = the numbers that get(i, numbers) gives, for i in [first, N). Four at a time, as the largest of one
/// vector, and its sum, cost almost what those of four do.
template <int middle, size_t first, size_t N, class Get>
[[gnu::always_inline]] inline void make_factors(Get get, Factors* factors) {
  constexpr size_t n = N - first < 4 ? N - first : 4;
  F numbers[n][block_vectors], most[n], totals[n];
  float tops[4], sums[4];
#pragma GCC unroll 4
  for (size_t k = 0; k < n; ++k) {
    get(first + k, numbers[k]);
    most[k] = abs(numbers[k][0]);
#pragma GCC unroll 16
    for (size_t v = 1; v < block_vectors; ++v) most[k] = max(most[k], abs(numbers[k][v]));
  }
  store_largest(tops, most[0], most[1 % n], most[2 % n], most[3 % n]);
#pragma GCC unroll 4
  for (size_t k = 0; k < n; ++k) {
    factors[first + k].step = tops[k] * (1 / largest_factor);
    const F inverse = splat(tops[k] > 1e-30f ? largest_factor / tops[k] : 0.0f);  // which may overflow below
    I whole[block_vectors];
#pragma GCC unroll 16
    for (size_t v = 0; v < block_vectors; ++v) whole[v] = rounded(numbers[k][v] * inverse);
    store_quads(factors[first + k].quads, whole);
#pragma GCC unroll 16
    for (size_t v = 1; v < block_vectors; ++v) whole[0] = add(whole[0], whole[v]);
    totals[k] = to_floats(whole[0]);
  }
  store_sums(sums, totals[0], totals[1 % n], totals[2 % n], totals[3 % n]);
#pragma GCC unroll 4
  for (size_t k = 0; k < n; ++k) factors[first + k].offset = integer(-middle * sums[k]);
  if constexpr (first + n < N) make_factors<middle, first + n, N>(get, factors);
}

// Not lambdas, which g++ compiles without the target region's instructions where templates are instantiated after it.
struct OfQuery {
  const float* block;
  void operator()(size_t, F (&numbers)[block_vectors]) const {
#pragma GCC unroll 16
    for (size_t v = 0; v < block_vectors; ++v) numbers[v] = load(block + v * width);
  }
};

/// Weights of rows times the scales of those.
struct OfWeights {
  const float* weights;
  size_t stride;
  const float* scales;
  void operator()(size_t query, F (&numbers)[block_vectors]) const {
#pragma GCC unroll 16
    for (size_t v = 0; v < block_vectors; ++v)
      numbers[v] = load(weights + query * stride + v * width) * load(scales + v * width);
  }
};

template <class Square>
void prepare(float* queries, size_t n_queries, size_t query_stride, size_t dim) {
  for (size_t q = 0; q < n_queries; ++q)
    for (size_t i = 0; i < dim; i += block_size) {
      float* const block = queries + q * query_stride + i;
      Factors factors;
      make_factors<Square::middle, 0, 1>(OfQuery{block}, &factors);
      std::memcpy(block, &factors, sizeof factors);
    }
}

/// In how many parts what a load brings is multiplied: a byte of four bits holds quants of two halves of a square.
template <class Square>
constexpr size_t square_parts = 1;
template <>
constexpr size_t square_parts<q4_0_square> = 2;
template <class Square>
constexpr size_t square_turns = block_size / 4 / square_parts<Square>;  // loads

/// The raw quants of (4 i, j + l) to (4 i + 3, j + l) for each lane l, where i = k + part * square_turns.
template <size_t part>
inline Quants quants_at(const q8_0_square& square, size_t k, size_t j) {
  return load_quants(square.quants[k][j]);
}
template <size_t part>
inline Quants quants_at(const q4_0_square& square, size_t k, size_t j) {
  return load_nibbles<part == 1>(square.nibbles[k][j]);
}

/// Of square_queries at most, whose sums fit the registers: products[t][v] += what part `part` of turn k comes to.
template <size_t part, class Square, size_t T>
[[gnu::always_inline]] inline void multiply_part(const Square& square, size_t k, size_t first,
                                                 const Factors* const (&factors)[T], I (&first_sums)[T][strip],
                                                 I (&second_sums)[T][strip]) {
  Quants quants[strip];
#pragma GCC unroll 16
  for (size_t v = 0; v < strip; ++v) quants[v] = quants_at<part>(square, k, first + v * width);
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) {
    const QuadFactors x = splat(factors[t]->quads[k + part * square_turns<Square>]);
#pragma GCC unroll 16
    for (size_t v = 0; v < strip; ++v) {
      first_sums[t][v] = add_first(first_sums[t][v], quants[v], x);
      second_sums[t][v] = add_second(second_sums[t][v], quants[v], x);
    }
  }
  if constexpr (part + 1 < square_parts<Square>)
    multiply_part<part + 1>(square, k, first, factors, first_sums, second_sums);
}

/// products[t][v], lane l = sum_i quant(i, first + v * width + l) factors[t][i]
template <class Square, size_t T>
[[gnu::always_inline]] inline void multiply(const Square& square, size_t first, const Factors* const (&factors)[T],
                                            I (&products)[T][strip]) {
  I first_sums[T][strip], second_sums[T][strip];
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (size_t v = 0; v < strip; ++v) first_sums[t][v] = second_sums[t][v] = splat(std::int32_t{0});
  }
#pragma GCC unroll square_unroll
  for (size_t k = 0; k < square_turns<Square>; ++k)
    multiply_part<0>(square, k, first, factors, first_sums, second_sums);
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (size_t v = 0; v < strip; ++v)
      products[t][v] = add(total(first_sums[t][v], second_sums[t][v]), splat(factors[t]->offset));
  }
}

template <size_t T, class Square>
void dots_of_tile(const float* queries, size_t n_queries, size_t query_stride, const Square* squares, size_t n_rows,
                  size_t blocks, float* scores, size_t score_stride, const std::byte* next) {
  size_t q = 0;
  for (; q + T <= n_queries; q += T, next = nullptr)
    for (size_t first = 0; first < n_rows; first += strip * width, next = nullptr) {
      F sums[T][strip];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
        for (size_t v = 0; v < strip; ++v) sums[t][v] = splat(0.0f);
      }
      for (size_t b = 0; b < blocks; ++b) {
        prefetch_next(next, b * sizeof(Square), (b + 1) * sizeof(Square));
        const Factors* factors[T];
#pragma GCC unroll 16
        for (size_t t = 0; t < T; ++t)
          factors[t] = row_at<Factors>(queries + (q + t) * query_stride, b * block_size * sizeof(float));
        I products[T][strip];
        multiply(squares[b], first, factors, products);
#pragma GCC unroll 16
        for (size_t v = 0; v < strip; ++v) {
          const F scales = load(squares[b].scales + first + v * width);
#pragma GCC unroll 16
          for (size_t t = 0; t < T; ++t)
            sums[t][v] = fma(to_floats(products[t][v]), scales * splat(factors[t]->step), sums[t][v]);
        }
      }
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
        for (size_t v = 0; v < strip; ++v)
          if (const size_t r = first + v * width; r < n_rows)
            store_rows(scores + (q + t) * score_stride + r, sums[t][v], n_rows - r);
      }
    }
  if constexpr (T > 1)
    dots_of_tile<T - 1>(queries + q * query_stride, n_queries - q, query_stride, squares, n_rows, blocks,
                        scores + q * score_stride, score_stride, next);
}

template <class Square>
void dots_of_squares(const float* queries, size_t n_queries, size_t query_stride, const std::byte* tile, size_t n_rows,
                     size_t dim, float* scores, size_t score_stride, const std::byte* next) {
  dots_of_tile<square_queries>(queries, n_queries, query_stride, row_at<Square>(tile, 0), n_rows, dim / block_size,
                               scores, score_stride, next);
}

constexpr size_t blocks_together = 4;

/// weights: [query][tile_rows], zero beyond the rows there are, as are scales.
template <size_t T, class Square>
void weigh_tile(const float* weights, size_t n_queries, size_t weight_stride, const Square* squares, size_t blocks,
                const float (*scales)[tile_rows], float* out, size_t out_stride, const std::byte* next) {
  size_t q = 0;
  for (; q + T <= n_queries; q += T, next = nullptr) {
    Factors factors[blocks_together][T];
    for (size_t b = 0; b < blocks; ++b)
      make_factors<Square::middle, 0, T>(OfWeights{weights + q * weight_stride, weight_stride, scales[b]}, factors[b]);
    for (size_t b = 0; b < blocks; ++b) {
      prefetch_next(next, b * sizeof(Square), (b + 1) * sizeof(Square));
      const Factors* each[T];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) each[t] = factors[b] + t;
      for (size_t first = 0; first < block_size; first += strip * width) {
        I products[T][strip];
        multiply(squares[b], first, each, products);
#pragma GCC unroll 16
        for (size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
          for (size_t v = 0; v < strip; ++v) {
            float* const to = out + (q + t) * out_stride + b * block_size + first + v * width;
            store(to, fma(to_floats(products[t][v]), splat(each[t]->step), load(to)));
          }
        }
      }
    }
  }
  if constexpr (T > 1)
    weigh_tile<T - 1>(weights + q * weight_stride, n_queries - q, weight_stride, squares, blocks, scales,
                      out + q * out_stride, out_stride, next);
}

template <class Square>
void weigh_squares(const float* weights, size_t n_queries, size_t weight_stride, const std::byte* tile, size_t n_rows,
                   size_t dim, float* out, size_t out_stride, const std::byte* next) {
  const Square* squares = row_at<Square>(tile, 0);
  for (size_t begin = 0, all = dim / block_size; begin < all; begin += blocks_together) {
    const size_t blocks = all - begin < blocks_together ? all - begin : blocks_together;
    float* const to = out + begin * block_size;
    alignas(64) float scales[blocks_together][tile_rows];
    for (size_t b = 0; b < blocks; ++b) {
      for (size_t r = 0; r < tile_rows; r += width) store(scales[b] + r, load(squares[begin + b].scales + r));
      for (size_t r = n_rows; r < tile_rows; ++r) scales[b][r] = 0;
    }
    if (n_rows == tile_rows) {
      const std::byte* const soon = next == nullptr ? nullptr : next + begin * sizeof(Square);
      weigh_tile<square_queries>(weights, n_queries, weight_stride, squares + begin, blocks, scales, to, out_stride,
                                 soon);
      continue;
    }
    for (size_t q = 0; q < n_queries; ++q) {
      alignas(64) float padded[tile_rows] = {};
      std::memcpy(padded, weights + q * weight_stride, n_rows * sizeof(float));
      weigh_tile<square_queries>(padded, 1, tile_rows, squares + begin, blocks, scales, to + q * out_stride, out_stride,
                                 nullptr);
    }
  }
}

}  // namespace
}  // namespace pith::kernels
