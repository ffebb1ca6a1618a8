// SPDX-License-Identifier: MIT
// The vector arithmetic of a transformer, run by the instruction set that was picked at start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "pith/api.hpp"
#include "pith/tensor/tile.hpp"

namespace pith::inline tensor {

/// Name of the instruction set in use: "scalar", "avx2", "avx512" or "neon".
PITH_API std::string_view isa();

/// Those that this binary holds and this machine can run, best first.
PITH_API std::vector<std::string_view> isas();

/// Uses the named one from now on; not while any session works. Throws Error (unsupported), naming those there are.
PITH_API void use_isa(std::string_view name);

/// The operations that take numbers one by one; in ops, a function for each says what it computes.
enum class Elementwise : std::uint8_t {
  add,
  scale,
  silu,
  silu_multiply,
  gelu_tanh,
  gelu,
  gelu_tanh_multiply,
  gelu_multiply,
  soft_cap,
  count  // of those above
};
inline constexpr auto elementwise_count = static_cast<std::size_t>(Elementwise::count);

namespace ops {

/// sum a[i] b[i], in an order fixed by the length alone.
PITH_API float dot(const float* a, const float* b, std::size_t n);

/// out = x / sqrt(mean(x^2) + eps) * weight
PITH_API void rms_norm(const float* x, const float* weight, float eps, std::size_t n, float* out);

/// out = (x - mean) / sqrt(variance + eps) * weight + bias
PITH_API void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::size_t n, float* out);

PITH_API float max(const float* x, std::size_t n);

/// x = e^(x - shift); returns the sum. -infinity gives 0.
PITH_API float exp_shifted(float* x, float shift, std::size_t n);

/// x[i] = f(x[i]), or f(x[i], other[i]), or f(x[i], number), as the operation says.
PITH_API void apply(Elementwise operation, float* x, const float* other, float number, std::size_t n);

/// y += x
inline void add(float* y, const float* x, std::size_t n) { apply(Elementwise::add, y, x, 0, n); }

/// x *= factor
inline void scale(float* x, float factor, std::size_t n) { apply(Elementwise::scale, x, nullptr, factor, n); }

/// silu(x) = x / (1 + e^-x)
inline void silu(float* x, std::size_t n) { apply(Elementwise::silu, x, nullptr, 0, n); }

/// x = silu(x) * up
inline void silu_multiply(float* x, const float* up, std::size_t n) { apply(Elementwise::silu_multiply, x, up, 0, n); }

/// GELU in its tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
inline void gelu_tanh(float* x, std::size_t n) { apply(Elementwise::gelu_tanh, x, nullptr, 0, n); }

/// GELU: 0.5 x (1 + erf(x / sqrt 2))
inline void gelu(float* x, std::size_t n) { apply(Elementwise::gelu, x, nullptr, 0, n); }

/// x = gelu_tanh(x) * up
inline void gelu_tanh_multiply(float* x, const float* up, std::size_t n) {
  apply(Elementwise::gelu_tanh_multiply, x, up, 0, n);
}

/// x = gelu(x) * up
inline void gelu_multiply(float* x, const float* up, std::size_t n) { apply(Elementwise::gelu_multiply, x, up, 0, n); }

/// x = cap tanh(x / cap), for cap > 0
inline void soft_cap(float* x, float cap, std::size_t n) { apply(Elementwise::soft_cap, x, nullptr, cap, n); }

/// n numbers to a row of blocks; n is a multiple of block_values(format).
PITH_API void encode(Format format, const float* values, std::size_t n, std::byte* row);
PITH_API void decode(Format format, const std::byte* row, std::size_t n, float* values);

/// x = H x / sqrt(n), where H is the Walsh-Hadamard matrix, H[i][j] = -1 to the number of bits that i and j share: a
/// rotation and its own inverse. Where n is no power of two, of each of the powers that n is the sum of, largest first.
PITH_API void hadamard(float* x, std::size_t n);

/// Makes queries ready for dots() with keys of a format, in place: spread, where such keys are, and no longer floats
/// where keys are in blocks; only dots() can read them.
PITH_API void prepare(KvFormat format, float* queries, std::size_t n_queries, std::size_t query_stride,
                      std::size_t dim);

/// scores[q * score_stride + j] = queries[q] . keys[j]: each stored row is loaded once for a few queries.
/// queries: [n_queries] rows of `dim` prepared numbers, query_stride apart; keys: a tile, of which the first n_rows are
/// meant; next: the tile that will be read next, asked of memory meanwhile, or null.
PITH_API void dots(KvFormat format, const float* queries, std::size_t n_queries, std::size_t query_stride,
                   const std::byte* keys, std::size_t n_rows, std::size_t dim, float* scores, std::size_t score_stride,
                   const std::byte* next = nullptr);

/// out[q][i] += sum_j weights[q][j] * values[j][i], of a tile and with `next` as in dots.
PITH_API void accumulate(KvFormat format, const float* weights, std::size_t n_queries, std::size_t weight_stride,
                         const std::byte* values, std::size_t n_rows, std::size_t dim, float* out,
                         std::size_t out_stride, const std::byte* next = nullptr);

/// c[i * c_stride + j] += sum_k a[i * a_row + k * a_col] * b[k * b_stride + j] for i < rows, k < depth, j < cols.
PITH_API void add_product(const float* a, std::size_t a_row, std::size_t a_col, const float* b, std::size_t b_stride,
                          std::size_t rows, std::size_t depth, std::size_t cols, float* c, std::size_t c_stride);

/// A turn of the online softmax (Milakov and Gimelshein, arXiv 1805.02867) for each column q < queries: with m the
/// maximum of maximum[q] and of scores[j * stride + q] over j < rows,
///   shrink[q] = e^(maximum[q] - m), scores = e^(scores - m), weight[q] = weight[q] shrink[q] + their sum, maximum[q] =
///   m.
/// Scores of -infinity become 0.
PITH_API void absorb(float* scores, std::size_t stride, std::size_t rows, std::size_t queries, float* maximum,
                     float* weight, float* shrink);

/// The same where a query's scores lie side by side, those of row j at scores[q * tile_rows + j]; j from `rows` on
/// become 0.
PITH_API void absorb_rows(float* scores, std::size_t rows, std::size_t queries, float* maximum, float* weight,
                          float* shrink);

}  // namespace ops
}  // namespace pith::inline tensor
