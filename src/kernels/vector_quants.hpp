// SPDX-License-Identifier: MIT
// Attention over tiles of q8_0 in integers, for any vector vocabulary. Included inside a target region, after
// vector_blocks.hpp.
//
// Bytes are multiplied with numbers of 16 bits: queries, and weights times the scales of the rows they weigh, are
// rounded to 2^-16 of the largest in their block. Sums of products of integers are exact, so nothing depends on their
// order. Keys with queries and values with weights are the same product of a square, whose lanes are rows or columns.
#pragma once

namespace pith::kernels {
namespace {

constexpr size_t block_size = BlockTraits<q8_0>::values;
constexpr size_t block_vectors = block_size / width;
constexpr float largest_factor = 127 * 256;  // what two signed bytes hold

/// 32 numbers that quants are multiplied with: step times whole numbers.
struct Factors {
  float step;
  std::int32_t offset;  // of a sum of products, as quants lie 128 too high
  Quad quads[block_size / 4];
};
static_assert(sizeof(Factors) <= block_size * sizeof(float));  // a query's take the place of its floats

/// factors[i] = the numbers that get(i, numbers) gives, for i in [first, N). Four at a time, as the largest of one
/// vector, and its sum, cost almost what those of four do.
template <size_t first, size_t N, class Get>
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
  for (size_t k = 0; k < n; ++k) factors[first + k].offset = integer(-128 * sums[k]);
  if constexpr (first + n < N) make_factors<first + n, N>(get, factors);
}

void prepare(float* queries, size_t n_queries, size_t query_stride, size_t dim) {
  for (size_t q = 0; q < n_queries; ++q)
    for (size_t i = 0; i < dim; i += block_size) {
      float* const block = queries + q * query_stride + i;
      Factors factors;
      make_factors<0, 1>(
          [&](size_t, F(&numbers)[block_vectors]) {
#pragma GCC unroll 16
            for (size_t v = 0; v < block_vectors; ++v) numbers[v] = load(block + v * width);
          },
          &factors);
      std::memcpy(block, &factors, sizeof factors);
    }
}

/// Of square_queries at most, whose sums fit the registers:
/// products[t][v], lane l = sum_i quant(i, first + v * width + l) factors[t][i]
template <size_t T>
[[gnu::always_inline]] inline void multiply(const q8_0_square& square, size_t first, const Factors* const (&factors)[T],
                                            I (&products)[T][strip]) {
  I first_sums[T][strip], second_sums[T][strip];
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (size_t v = 0; v < strip; ++v) first_sums[t][v] = second_sums[t][v] = splat(std::int32_t{0});
  }
#pragma GCC unroll square_unroll
  for (size_t k = 0; k < block_size / 4; ++k) {
    Quants quants[strip];
#pragma GCC unroll 16
    for (size_t v = 0; v < strip; ++v) quants[v] = load_quants(square.quants[k][first + v * width]);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) {
      const QuadFactors x = splat(factors[t]->quads[k]);
#pragma GCC unroll 16
      for (size_t v = 0; v < strip; ++v) {
        first_sums[t][v] = add_first(first_sums[t][v], quants[v], x);
        second_sums[t][v] = add_second(second_sums[t][v], quants[v], x);
      }
    }
  }
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (size_t v = 0; v < strip; ++v)
      products[t][v] = add(total(first_sums[t][v], second_sums[t][v]), splat(factors[t]->offset));
  }
}

template <size_t T>
void dots_of_tile(const float* queries, size_t n_queries, size_t query_stride, const q8_0_square* squares,
                  size_t n_rows, size_t blocks, float* scores, size_t score_stride, const std::byte* next) {
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
        prefetch_next(next, b * sizeof(q8_0_square), (b + 1) * sizeof(q8_0_square));
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

void dots_q8_0(const float* queries, size_t n_queries, size_t query_stride, const std::byte* tile, size_t n_rows,
               size_t dim, float* scores, size_t score_stride, const std::byte* next) {
  dots_of_tile<square_queries>(queries, n_queries, query_stride, row_at<q8_0_square>(tile, 0), n_rows, dim / block_size,
                               scores, score_stride, next);
}

constexpr size_t blocks_together = 4;

/// weights: [query][tile_rows], zero beyond the rows there are, as are scales.
template <size_t T>
void weigh_squares(const float* weights, size_t n_queries, size_t weight_stride, const q8_0_square* squares,
                   size_t blocks, const float (*scales)[tile_rows], float* out, size_t out_stride,
                   const std::byte* next) {
  size_t q = 0;
  for (; q + T <= n_queries; q += T, next = nullptr) {
    Factors factors[blocks_together][T];
    for (size_t b = 0; b < blocks; ++b)
      make_factors<0, T>(
          [&](size_t t, F(&numbers)[block_vectors]) {
#pragma GCC unroll 16
            for (size_t v = 0; v < block_vectors; ++v)
              numbers[v] = load(weights + (q + t) * weight_stride + v * width) * load(scales[b] + v * width);
          },
          factors[b]);
    for (size_t b = 0; b < blocks; ++b) {
      prefetch_next(next, b * sizeof(q8_0_square), (b + 1) * sizeof(q8_0_square));
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
    weigh_squares<T - 1>(weights + q * weight_stride, n_queries - q, weight_stride, squares, blocks, scales,
                         out + q * out_stride, out_stride, next);
}

void accumulate_q8_0(const float* weights, size_t n_queries, size_t weight_stride, const std::byte* tile, size_t n_rows,
                     size_t dim, float* out, size_t out_stride, const std::byte* next) {
  const q8_0_square* squares = row_at<q8_0_square>(tile, 0);
  for (size_t begin = 0, all = dim / block_size; begin < all; begin += blocks_together) {
    const size_t blocks = all - begin < blocks_together ? all - begin : blocks_together;
    alignas(64) float scales[blocks_together][tile_rows];
    for (size_t b = 0; b < blocks; ++b) {
      for (size_t r = 0; r < tile_rows; r += width) store(scales[b] + r, load(squares[begin + b].scales + r));
      for (size_t r = n_rows; r < tile_rows; ++r) scales[b][r] = 0;
    }
    const auto weigh = [&](const float* rows, size_t count, size_t stride, float* to, const std::byte* soon) {
      weigh_squares<square_queries>(rows, count, stride, squares + begin, blocks, scales, to + begin * block_size,
                                    out_stride, soon == nullptr ? nullptr : soon + begin * sizeof(q8_0_square));
    };
    if (n_rows == tile_rows) {
      weigh(weights, n_queries, weight_stride, out, next);
      continue;
    }
    for (size_t q = 0; q < n_queries; ++q) {
      alignas(64) float padded[tile_rows] = {};
      std::memcpy(padded, weights + q * weight_stride, n_rows * sizeof(float));
      weigh(padded, 1, tile_rows, out + q * out_stride, nullptr);
    }
  }
}

}  // namespace
}  // namespace pith::kernels
