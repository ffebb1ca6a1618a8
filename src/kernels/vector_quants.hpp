// SPDX-License-Identifier: MIT
// Attention over cached rows of q8_0 in integers, for any vector vocabulary. Included inside a target region, after
// vector_blocks.hpp.
//
// Bytes are multiplied with numbers of 16 bits: queries, and weights times the scales of the rows they weigh, are
// rounded to 2^-16 of the largest in their block. Sums of products of integers are exact, so nothing depends on their
// order.
#pragma once

namespace pith::kernel {
namespace {

constexpr size_t block_size = BlockTraits<q8_0>::values;

/// 32 numbers of a query, in the place of its floats: value[i] = scale * quants[i]. Of every four quants the two in the
/// middle are swapped, as even_bytes and odd_bytes want their factors side by side.
struct QueryBlock {
  float scale;
  std::int16_t quants[block_size];
  float unused[block_size / 2 - 1];
};
static_assert(sizeof(QueryBlock) == block_size * sizeof(float));

/// From one number of 16 bits to the next, where 32767 of them are `largest`; its inverse, or 0 where that may
/// overflow.
struct Step {
  float size, inverse;
  explicit Step(float largest)
      : size(largest * (1 / 32767.0f)), inverse(largest > 1e-30f ? 32767.0f / largest : 0.0f) {}
};

void prepare(float* queries, size_t n_queries, size_t query_stride, size_t dim) {
  for (size_t q = 0; q < n_queries; ++q)
    for (size_t b = 0; b < dim / block_size; ++b) {
      float* const values = queries + q * query_stride + b * block_size;
      F most = splat(0.0f);
      for (size_t i = 0; i < block_size; i += width) most = max(most, abs(load(values + i)));
      const Step step(largest(most));
      QueryBlock block = {.scale = step.size, .quants = {}, .unused = {}};
      for (size_t i = 0; i < block_size; i += width)
        store_rounded(block.quants + i, load(values + i) * splat(step.inverse));
      for (size_t i = 0; i < block_size; i += 4) std::swap(block.quants[i + 1], block.quants[i + 2]);
      std::memcpy(values, &block, sizeof block);
    }
}

/// scores[t * score_stride + r] of `width` rows, of which the first `count` are stored, and T queries.
template <size_t T>
void dots_of_rows(Group<q8_0> group, size_t count, const float* queries, size_t query_stride, size_t blocks,
                  float* scores, size_t score_stride) {
  F sums[T];
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) sums[t] = splat(0.0f);
  for (size_t b = 0; b < blocks; ++b, group.first += sizeof(q8_0), queries += block_size) {
    PairSums evens[T], odds[T];  // apart, as what is added to one has to wait for it
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) evens[t] = odds[t] = PairSums();
#pragma GCC unroll 2
    for (size_t half = 0; half < 2; ++half) {
      I quads[4];
      transpose(load_sixteen(group.first + offsetof(q8_0, quants) + 16 * half, group.stride), quads);
#pragma GCC unroll 4
      for (size_t k = 0; k < 4; ++k) {
        const Pairs even = even_bytes(quads[k]), odd = odd_bytes(quads[k]);
#pragma GCC unroll 16
        for (size_t t = 0; t < T; ++t) {
          const std::int16_t* x = row_at<QueryBlock>(queries + t * query_stride, 0)->quants + 16 * half + 4 * k;
          evens[t] = add_pairs(evens[t], even, splat_pair(x));
          odds[t] = add_pairs(odds[t], odd, splat_pair(x + 2));
        }
      }
    }
    const F scales = load_halves(group.first + offsetof(q8_0, scale), group.stride);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t)
      sums[t] =
          fma(to_floats(add(total(evens[t]), total(odds[t]))), scales * splat(queries[t * query_stride]), sums[t]);
  }
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) store_rows(scores + t * score_stride, sums[t], count);
}

template <size_t T>
void dots_of_page(const float* queries, size_t n_queries, size_t query_stride, const std::byte* rows, size_t n_rows,
                  size_t dim, float* scores, size_t score_stride, const std::byte* next) {
  const size_t stride = row_bytes(Format::q8_0, dim), blocks = dim / block_size;
  size_t q = 0;
  for (; q + T <= n_queries; q += T) {
    const float* xs = queries + q * query_stride;
    size_t r = 0;
    for (; r + width <= n_rows; r += width) {
      prefetch_next(next, r * stride, (r + width) * stride);
      dots_of_rows<T>({rows + r * stride, stride}, width, xs, query_stride, blocks, scores + q * score_stride + r,
                      score_stride);
    }
    if (r < n_rows) {
      std::byte* const rest = scratch(width * stride);  // so that all of a group can be loaded
      std::memcpy(rest, rows + r * stride, (n_rows - r) * stride);
      dots_of_rows<T>({rest, stride}, n_rows - r, xs, query_stride, blocks, scores + q * score_stride + r,
                      score_stride);
    }
    next = nullptr;
  }
  if constexpr (T > 1)
    dots_of_page<T - 1>(queries + q * query_stride, n_queries - q, query_stride, rows, n_rows, dim,
                        scores + q * score_stride, score_stride, next);
}

void dots_q8_0(const float* queries, size_t n_queries, size_t query_stride, const std::byte* rows, size_t n_rows,
               size_t dim, float* scores, size_t score_stride, const std::byte* next) {
  dots_of_page<dot_queries>(queries, n_queries, query_stride, rows, n_rows, dim, scores, score_stride, next);
}

constexpr size_t rows_together = 32;  // whose products with 16 bits fit a sum of 32
constexpr size_t blocks_together = 4;

/// A block of columns of rows_together rows or fewer.
struct Column {
  const std::byte* first;
  size_t stride, count;
  const std::int8_t* quants(size_t j) const {
    return row_at<q8_0>(first, (j < count ? j : count - 1) * stride)->quants;
  }
};

inline void load_scales(const Column& column, float* scales) {
  size_t j = 0;
  for (; j + width <= column.count; j += width)
    store(scales + j, load_halves(column.first + j * column.stride, column.stride));
  for (; j < column.count; ++j) scales[j] = to_float(row_at<q8_0>(column.first, j * column.stride)->scale);
  for (; j < rows_together; ++j) scales[j] = 0;
}

/// weights[j] * scales[j] of one query as quants; returns their step.
inline float quantise_weights(const float* weights, const float* scales, size_t count, std::int16_t* quants) {
  F products[rows_together / width], most = splat(0.0f);
#pragma GCC unroll 16
  for (size_t v = 0; v < rows_together / width; ++v) {
    const size_t j = v * width;
    const F w = j + width <= count ? load(weights + j) : load_some(weights + j, j < count ? count - j : 0);
    products[v] = w * load(scales + j);
    most = max(most, abs(products[v]));
  }
  const Step step(largest(most));
#pragma GCC unroll 16
  for (size_t v = 0; v < rows_together / width; ++v)
    store_rounded(quants + v * width, products[v] * splat(step.inverse));
  return step.size;
}

/// out[q][0 .. 32) += steps[q] sum_j factors[q][j] quants[j] for Q queries.
template <size_t Q>
void weigh_column(const Column& column, const std::int16_t (&factors)[Q][rows_together], const float (&steps)[Q],
                  float* out, size_t out_stride, const std::byte* next, size_t next_bytes) {
  for (size_t s = 0; s < block_size; s += strip * width) {
    PairSums sums[Q][strip];
#pragma GCC unroll 16
    for (size_t q = 0; q < Q; ++q) {
#pragma GCC unroll 16
      for (size_t v = 0; v < strip; ++v) sums[q][v] = PairSums();
    }
    for (size_t j = 0; j < column.count; j += 4) {
      I quads[strip];
      interleave(column.quants(j) + s, column.quants(j + 1) + s, column.quants(j + 2) + s, column.quants(j + 3) + s,
                 quads);
      prefetch_next(next, j * next_bytes / rows_together, (j + 4) * next_bytes / rows_together);
#pragma GCC unroll 16
      for (size_t v = 0; v < strip; ++v) {
        const Pairs even = even_bytes(quads[v]), odd = odd_bytes(quads[v]);
#pragma GCC unroll 16
        for (size_t q = 0; q < Q; ++q)
          sums[q][v] =
              add_pairs(add_pairs(sums[q][v], even, splat_pair(factors[q] + j)), odd, splat_pair(factors[q] + j + 2));
      }
    }
#pragma GCC unroll 16
    for (size_t q = 0; q < Q; ++q) {
      I totals[strip];
#pragma GCC unroll 16
      for (size_t v = 0; v < strip; ++v) totals[v] = total(sums[q][v]);
      straighten(totals);
#pragma GCC unroll 16
      for (size_t v = 0; v < strip; ++v) {
        float* const to = out + q * out_stride + s + v * width;
        store(to, fma(to_floats(totals[v]), splat(steps[q]), load(to)));
      }
    }
    next = nullptr;
  }
}

template <size_t Q>
void weigh_columns(const Column& first, size_t blocks, const float (*scales)[rows_together], const float* weights,
                   size_t n_queries, size_t weight_stride, float* out, size_t out_stride, const std::byte* next) {
  const size_t bytes = first.count * sizeof(q8_0);
  size_t q = 0;
  for (; q + Q <= n_queries; q += Q) {
    alignas(64) std::int16_t factors[blocks_together][Q][rows_together];
    float steps[blocks_together][Q];
    for (size_t b = 0; b < blocks; ++b)
#pragma GCC unroll 16
      for (size_t i = 0; i < Q; ++i)
        steps[b][i] = quantise_weights(weights + (q + i) * weight_stride, scales[b], first.count, factors[b][i]);
    for (size_t b = 0; b < blocks; ++b)
      weigh_column<Q>({first.first + b * sizeof(q8_0), first.stride, first.count}, factors[b], steps[b],
                      out + q * out_stride + b * block_size, out_stride, next == nullptr ? nullptr : next + b * bytes,
                      bytes);
    next = nullptr;
  }
  if constexpr (Q > 1)
    weigh_columns<Q - 1>(first, blocks, scales, weights + q * weight_stride, n_queries - q, weight_stride,
                         out + q * out_stride, out_stride, next);
}

void accumulate_q8_0(const float* weights, size_t n_queries, size_t weight_stride, const std::byte* rows, size_t n_rows,
                     size_t dim, float* out, size_t out_stride, const std::byte* next) {
  const size_t stride = row_bytes(Format::q8_0, dim), all = dim / block_size;
  for (size_t r = 0; r < n_rows; r += rows_together) {
    const size_t count = n_rows - r < rows_together ? n_rows - r : rows_together;
    for (size_t b = 0; b < all; b += blocks_together) {
      const size_t blocks = all - b < blocks_together ? all - b : blocks_together;
      const Column first{rows + r * stride + b * sizeof(q8_0), stride, count};
      alignas(64) float scales[blocks_together][rows_together];
      for (size_t i = 0; i < blocks; ++i) load_scales({first.first + i * sizeof(q8_0), stride, count}, scales[i]);
      weigh_columns<weigh_queries>(first, blocks, scales, weights + r, n_queries, weight_stride, out + b * block_size,
                                   out_stride,
                                   next == nullptr ? nullptr : next + r * stride + b * count * sizeof(q8_0));
    }
  }
}

}  // namespace
}  // namespace pith::kernel
