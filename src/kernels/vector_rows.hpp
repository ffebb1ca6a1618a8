// SPDX-License-Identifier: MIT
// Kernels over rows of stored numbers, for any vector vocabulary. Included inside a target region, after the
// vocabulary.
//
// Every output has one accumulator that walks its length in steps of `width`; speed comes from computing several
// outputs at once. So a number does not depend on its neighbours, and a batch equals its single rows bitwise.
#pragma once

namespace pith::kernels {
namespace {

using std::size_t;

/// `p`, `bytes` further on, as a row of T.
template <class T>
inline const T* row_at(const void* p, size_t bytes) {
  return static_cast<const T*>(static_cast<const void*>(static_cast<const std::byte*>(p) + bytes));
}

template <class T>
inline F load_some(const T* p, size_t n) {
  alignas(64) T buffer[width] = {};
  std::memcpy(buffer, p, n * sizeof(T));
  return load(buffer);
}

template <class T>
inline void store_some(T* p, F v, size_t n) {
  alignas(64) T buffer[width];
  store(buffer, v);
  std::memcpy(p, buffer, n * sizeof(T));
}

/// Numbers [v * width, (v + 1) * width) of the blocks at `p`: all that the float kernels must know of a format.
template <class T>
inline F values(const T* p, size_t v) {
  return load(p + v * width);
}

inline F values(const q8_0* p, size_t v) {
  const q8_0& block = p[v * width / BlockTraits<q8_0>::values];
  return splat(block.scale) * load(block.quants + v * width % BlockTraits<q8_0>::values);
}

/// Numbers that one turn of a loop reads: whole vectors and whole blocks.
template <Block B>
constexpr size_t chunk = BlockTraits<B>::values > width ? BlockTraits<B>::values : width;

constexpr size_t least_ahead = size_t{16} << 10;  // bytes

/// Asks for what is read first, which nothing before it has asked for.
[[gnu::always_inline]] inline void prefetch_first(const std::byte* rows, size_t bytes) {
  for (size_t i = 0; i < (bytes < least_ahead ? bytes : least_ahead); i += 64) __builtin_prefetch(rows + i, 0, 2);
}

/// Asks for what is read `rows` rows (but at least `least_ahead`) after the bytes [begin, end) of these rows: several
/// rows by turns are more streams than the hardware foresees, the more so the shorter they are. Inlined always, as g++
/// takes a function that only prefetches for one without effect.
[[gnu::always_inline]] inline void prefetch_after(const void* row, size_t stride, size_t rows, size_t begin,
                                                  size_t end) {
  const size_t distance = rows * stride > least_ahead ? rows * stride : least_ahead;
  const std::byte* first = row_at<std::byte>(row, distance + rows * begin);
  for (size_t i = 0; i < rows * (end - begin); i += 64) __builtin_prefetch(first + i, 0, 2);  // to the second level
}

/// Asks for the lines that begin within bytes [begin, end) from `next` on; nothing where that is null.
[[gnu::always_inline]] inline void prefetch_next(const std::byte* next, size_t begin, size_t end) {
  if (next == nullptr) return;
  for (size_t i = (begin + 63) / 64 * 64; i < end; i += 64) __builtin_prefetch(next + i, 0, 2);
}

/// Where rows lie: a weight's go on after those at hand, a cache page ends with them.
enum class Source { weight, page };

/// y[t][r] = w[r] . x[t] for R rows and T vectors; R is 1 or a multiple of 4. Strides of w and x in bytes.
template <Source source, Block B, size_t R, size_t T>
void patch(const B* w, size_t w_stride, const float* x, size_t x_stride, size_t n, float* y, size_t y_stride) {
  const B* rows[R];
  const float* xs[T];
  F sums[R][T];
#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) xs[t] = row_at<float>(x, t * x_stride);
#pragma GCC unroll 16
  for (size_t r = 0; r < R; ++r) {
    rows[r] = row_at<B>(w, r * w_stride);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; ++t) sums[r][t] = splat(0.0f);
  }

  size_t i = 0;
  for (; i + chunk<B> <= n; i += chunk<B>) {
    const size_t block = i / BlockTraits<B>::values;
    if constexpr (source == Source::weight && T == 1)
      prefetch_after(w, w_stride, R, block * sizeof(B), (block + chunk<B> / BlockTraits<B>::values) * sizeof(B));
#pragma GCC unroll 16
    for (size_t v = 0; v < chunk<B> / width; ++v) {
      F in[T];
#pragma GCC unroll 16
      for (size_t t = 0; t < T; ++t) in[t] = values(xs[t] + i, v);
#pragma GCC unroll 16
      for (size_t r = 0; r < R; ++r) {
        const F weight = values(rows[r] + block, v);
#pragma GCC unroll 16
        for (size_t t = 0; t < T; ++t) sums[r][t] = fma(weight, in[t], sums[r][t]);
      }
    }
  }
  if constexpr (BlockTraits<B>::values == 1) {
    if (i < n) {
#pragma GCC unroll 16
      for (size_t r = 0; r < R; ++r) {
        const F weight = load_some(rows[r] + i, n - i);
#pragma GCC unroll 16
        for (size_t t = 0; t < T; ++t) sums[r][t] = fma(weight, load_some(xs[t] + i, n - i), sums[r][t]);
      }
    }
  }

#pragma GCC unroll 16
  for (size_t t = 0; t < T; ++t) {
    float* out = y + t * y_stride;
    if constexpr (R == 1) {
      out[0] = sum(sums[0][t]);
    } else {
#pragma GCC unroll 16
      for (size_t r = 0; r < R; r += 4) store_sums(out + r, sums[r][t], sums[r + 1][t], sums[r + 2][t], sums[r + 3][t]);
    }
  }
}

/// T vectors at a time over all rows, so that those vectors stay in the first-level cache; then what is left at once.
/// `next`: what will be read after a page, asked for along with its rows.
template <Source source, Block B, size_t T>
void patches(const B* w, size_t w_stride, size_t rows, const float* x, size_t x_stride, size_t tokens, size_t n,
             float* y, size_t y_stride, const std::byte* next = nullptr) {
  constexpr size_t R = T <= 2 ? 8 : 4;
  size_t t = 0;
  for (; t + T <= tokens; t += T) {
    const float* xs = row_at<float>(x, t * x_stride);
    float* ys = y + t * y_stride;
    size_t r = 0;
    for (; r + R <= rows; r += R) {
      if constexpr (source == Source::page) prefetch_next(next, r * w_stride, (r + R) * w_stride);
      patch<source, B, R, T>(row_at<B>(w, r * w_stride), w_stride, xs, x_stride, n, ys + r, y_stride);
    }
    for (; r < rows; ++r)
      patch<source, B, 1, T>(row_at<B>(w, r * w_stride), w_stride, xs, x_stride, n, ys + r, y_stride);
    next = nullptr;
  }
  if constexpr (T > 1)
    patches<source, B, T - 1>(w, w_stride, rows, row_at<float>(x, t * x_stride), x_stride, tokens - t, n,
                              y + t * y_stride, y_stride, next);
}

template <Block B>
void matmul(const std::byte* w, size_t w_stride, size_t rows, const std::byte* x, size_t x_stride, size_t tokens,
            size_t cols, float* y, size_t y_stride) {
  patches<Source::weight, B, patch_tokens>(row_at<B>(w, 0), w_stride, rows, row_at<float>(x, 0), x_stride, tokens, cols,
                                           y, y_stride);
}

template <Block B>
void dots(const float* queries, size_t n_queries, size_t query_stride, const std::byte* rows, size_t n_rows, size_t dim,
          float* scores, size_t score_stride, const std::byte* next) {
  patches<Source::page, B, patch_tokens>(row_at<B>(rows, 0), row_bytes<B>(dim), n_rows, queries,
                                         query_stride * sizeof(float), n_queries, dim, scores, score_stride, next);
}

/// out[q][0 .. V * width) += sum_j weights[q][j] rows[j][the same columns] for Q queries.
template <Block B, size_t Q, size_t V>
void weigh(const float* weights, size_t weight_stride, const B* rows, size_t row_stride, size_t n_rows, float* out,
           size_t out_stride, const std::byte* next) {
  F sums[Q][V];
#pragma GCC unroll 16
  for (size_t q = 0; q < Q; ++q) {
#pragma GCC unroll 16
    for (size_t v = 0; v < V; ++v) sums[q][v] = load(out + q * out_stride + v * width);
  }
  for (size_t j = 0; j < n_rows; ++j) {
    const B* row = row_at<B>(rows, j * row_stride);
    prefetch_next(next, j * row_stride, (j + 1) * row_stride);
#pragma GCC unroll 16
    for (size_t v = 0; v < V; ++v) {
      const F value = values(row, v);
#pragma GCC unroll 16
      for (size_t q = 0; q < Q; ++q) sums[q][v] = fma(splat(weights[q * weight_stride + j]), value, sums[q][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t q = 0; q < Q; ++q) {
#pragma GCC unroll 16
    for (size_t v = 0; v < V; ++v) store(out + q * out_stride + v * width, sums[q][v]);
  }
}

template <Block B, size_t Q>
void weighs(const float* weights, size_t n_queries, size_t weight_stride, const B* rows, size_t n_rows, size_t dim,
            float* out, size_t out_stride, const std::byte* next) {
  constexpr size_t wide = 4 * width;  // columns that Q queries have accumulators for
  const size_t row_stride = row_bytes<B>(dim);
  size_t q = 0;
  for (; q + Q <= n_queries; q += Q) {
    const float* ws = weights + q * weight_stride;
    float* outs = out + q * out_stride;
    size_t i = 0;
    if constexpr (wide % chunk<B> == 0) {
      for (; i + wide <= dim; i += wide, next = nullptr)
        weigh<B, Q, wide / width>(ws, weight_stride, rows + i / BlockTraits<B>::values, row_stride, n_rows, outs + i,
                                  out_stride, next);
    }
    for (; i + chunk<B> <= dim; i += chunk<B>, next = nullptr)
      weigh<B, Q, chunk<B> / width>(ws, weight_stride, rows + i / BlockTraits<B>::values, row_stride, n_rows, outs + i,
                                    out_stride, next);
    if constexpr (BlockTraits<B>::values == 1) {
      if (i < dim) {
        F sums[Q];
#pragma GCC unroll 16
        for (size_t k = 0; k < Q; ++k) sums[k] = load_some(outs + k * out_stride + i, dim - i);
        for (size_t j = 0; j < n_rows; ++j) {
          const F value = load_some(row_at<B>(rows, j * row_stride) + i, dim - i);
#pragma GCC unroll 16
          for (size_t k = 0; k < Q; ++k) sums[k] = fma(splat(ws[k * weight_stride + j]), value, sums[k]);
        }
#pragma GCC unroll 16
        for (size_t k = 0; k < Q; ++k) store_some(outs + k * out_stride + i, sums[k], dim - i);
      }
    }
  }
  if constexpr (Q > 1)
    weighs<B, Q - 1>(weights + q * weight_stride, n_queries - q, weight_stride, rows, n_rows, dim, out + q * out_stride,
                     out_stride, next);
}

template <Block B>
void accumulate(const float* weights, size_t n_queries, size_t weight_stride, const std::byte* rows, size_t n_rows,
                size_t dim, float* out, size_t out_stride, const std::byte* next) {
  if (n_rows == 0) return;
  weighs<B, patch_tokens>(weights, n_queries, weight_stride, row_at<B>(rows, 0), n_rows, dim, out, out_stride, next);
}

template <Block B>
void decode(const std::byte* row, size_t n, float* out) {
  const B* blocks = row_at<B>(row, 0);
  size_t i = 0;
  for (; i + chunk<B> <= n; i += chunk<B>)
    for (size_t v = 0; v < chunk<B> / width; ++v)
      store(out + i + v * width, values(blocks + i / BlockTraits<B>::values, v));
  if constexpr (BlockTraits<B>::values == 1)
    if (i < n) store_some(out + i, load_some(blocks + i, n - i), n - i);
}

template <Block B>
void encode(const float* in, size_t n, std::byte* row) {
  B* blocks = static_cast<B*>(static_cast<void*>(row));
  size_t i = 0;
  for (; i + width <= n; i += width) store(blocks + i, load(in + i));
  if (i < n) store_some(blocks + i, load_some(in + i, n - i), n - i);
}

/// Stores the quants of 32 values; returns their scale.
inline float quantise_32(const float* in, std::int8_t* quants) {
  F most = splat(0.0f);
  for (size_t i = 0; i < 32; i += width) most = max(most, abs(load(in + i)));
  const float scale = largest(most) / 127.0f;
  const F inverse = splat(scale > 1e-30f ? 1.0f / scale : 0.0f);
  for (size_t i = 0; i < 32; i += width) store_rounded(quants + i, load(in + i) * inverse);
  return scale;
}

template <>
void encode<q8_0>(const float* in, size_t n, std::byte* row) {
  q8_0* blocks = static_cast<q8_0*>(static_cast<void*>(row));
  for (size_t b = 0; b < n / 32; ++b) blocks[b].scale = to_f16(quantise_32(in + b * 32, blocks[b].quants));
}

void quantise(const float* in, size_t n, q8_activation* out) {
  for (size_t b = 0; b < n / 32; ++b) out[b].scale = quantise_32(in + b * 32, out[b].quants);
  // A loop of its own: right after narrower stores, a load of their 16 bytes would wait for them.
  for (size_t b = 0; b < n / 32; ++b)
    for (size_t half = 0; half < 2; ++half) out[b].sums[half] = sum_of_16(out[b].quants + 16 * half);
}

}  // namespace
}  // namespace pith::kernels
