// SPDX-License-Identifier: MIT
// The plain twin of every kernel: the formula as a loop. Rows of blocks may lie at any address.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/plain_rows.hpp"
#include "kernels/table.hpp"

namespace pith::kernel {
namespace {

/// w . x of one block each.
template <Block B>
float block_dot(const B& w, const float* x) {
  return to_float(w) * *x;
}

/// sum quant(i) x[i] for i in [begin, end)
template <class Quant>
float integer_dot(const q8_activation& x, int begin, int end, Quant quant) {
  std::int32_t sum = 0;
  for (int i = begin; i < end; ++i) sum += quant(i) * x.quants[i];
  return static_cast<float>(sum);
}

float block_dot(const q8_0& w, const q8_activation* x) {
  return to_float(w.scale) * x->scale * integer_dot(*x, 0, 32, [&](int i) { return int{w.quants[i]}; });
}

float block_dot(const q4_0& w, const q8_activation* x) {
  const auto quant = [&](int i) { return (w.nibbles[i % 16] >> (i / 16 * 4) & 15) - 8; };
  return to_float(w.scale) * x->scale * integer_dot(*x, 0, 32, quant);
}

float block_dot(const q4_k& w, const q8_activation* x) {
  float sum = 0;
  for (int part = 0; part < 8; ++part) {
    const PartScales integers = part_of(w, part);
    const auto quant = [&](int i) { return w.nibbles[part / 2 * 32 + i] >> (part % 2 * 4) & 15; };
    const float scale = to_float(w.scale) * static_cast<float>(integers.scale);
    const float min = to_float(w.min) * static_cast<float>(integers.min);
    sum += x[part].scale *
           (scale * integer_dot(x[part], 0, 32, quant) - min * static_cast<float>(x[part].sums[0] + x[part].sums[1]));
  }
  return sum;
}

float block_dot(const q6_k& w, const q8_activation* x) {
  float sum = 0;
  for (int part = 0; part < 16; ++part) {
    const int half = part / 8, first = part % 8 * 16, begin = part % 2 * 16;
    const auto quant = [&](int i) {
      const int k = first - begin + i;  // of the half's 128 values
      const int low = w.nibbles[half * 64 + k % 64] >> (k / 64 * 4) & 15;
      return (low | (w.upper[half * 32 + k % 32] >> (k / 32 * 2) & 3) << 4) - 32;
    };
    const q8_activation& block = x[part / 2];
    sum += to_float(w.scale) * static_cast<float>(w.part_scales[part]) * block.scale *
           integer_dot(block, begin, begin + 16, quant);
  }
  return sum;
}

template <Block B>
void matmul(const std::byte* w, std::size_t w_stride, std::size_t rows, const std::byte* x, std::size_t x_stride,
            std::size_t tokens, std::size_t cols, float* y, std::size_t y_stride) {
  using X = typename BlockTraits<B>::Activation;
  constexpr std::size_t per_block = BlockTraits<B>::values > 1 ? BlockTraits<B>::values / 32 : 1;  // of X
  const std::size_t blocks = cols / BlockTraits<B>::values;
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t r = 0; r < rows; ++r) {
      const X* vector = static_cast<const X*>(static_cast<const void*>(x + t * x_stride));
      float sum = 0;
      for (std::size_t b = 0; b < blocks; ++b)
        sum += block_dot(block_at<B>(w + r * w_stride, b), vector + b * per_block);
      y[t * y_stride + r] = sum;
    }
}

void quantise(const float* values, std::size_t n, q8_activation* out) {
  for (std::size_t i = 0; i < n / 32; ++i) BlockTraits<q8_activation>::encode(values + i * 32, out[i]);
}

template <Block B>
void dots(const float* queries, std::size_t n_queries, std::size_t query_stride, const std::byte* rows,
          std::size_t n_rows, std::size_t dim, float* scores, std::size_t score_stride, const std::byte*) {
  constexpr std::size_t step = BlockTraits<B>::values;
  const std::size_t stride = row_bytes(BlockTraits<B>::format, dim);
  for (std::size_t q = 0; q < n_queries; ++q)
    for (std::size_t j = 0; j < n_rows; ++j) {
      float sum = 0;
      for (std::size_t b = 0; b < dim / step; ++b) {
        float values[step];
        BlockTraits<B>::decode(block_at<B>(rows + j * stride, b), values);
        for (std::size_t i = 0; i < step; ++i) sum += queries[q * query_stride + b * step + i] * values[i];
      }
      scores[q * score_stride + j] = sum;
    }
}

template <Block B>
void accumulate(const float* weights, std::size_t n_queries, std::size_t weight_stride, const std::byte* rows,
                std::size_t n_rows, std::size_t dim, float* out, std::size_t out_stride, const std::byte*) {
  constexpr std::size_t step = BlockTraits<B>::values;
  const std::size_t stride = row_bytes(BlockTraits<B>::format, dim);
  for (std::size_t q = 0; q < n_queries; ++q)
    for (std::size_t j = 0; j < n_rows; ++j)
      for (std::size_t b = 0; b < dim / step; ++b) {
        float values[step];
        BlockTraits<B>::decode(block_at<B>(rows + j * stride, b), values);
        for (std::size_t i = 0; i < step; ++i)
          out[q * out_stride + b * step + i] += weights[q * weight_stride + j] * values[i];
      }
}

float dot(const float* a, const float* b, std::size_t n) {
  float sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add(float* y, const float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += x[i];
}

void rms_norm(const float* x, const float* weight, float eps, std::size_t n, float* out) {
  const float factor = 1.0f / std::sqrt(dot(x, x, n) / static_cast<float>(n) + eps);
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::size_t n, float* out) {
  float sum = 0, squares = 0;
  for (std::size_t i = 0; i < n; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(n);
  for (std::size_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  for (std::size_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * factor * weight[i] + bias[i];
}

void silu_multiply(float* x, const float* up, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = x[i] / (1.0f + std::exp(-x[i])) * up[i];
}

void gelu_tanh(float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float inner = 0.7978845608f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
    x[i] = 0.5f * x[i] * (1.0f + std::tanh(inner));
  }
}

void gelu(float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.7071067812f));
}

float max(const float* x, std::size_t n) {
  float largest = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, x[i]);
  return largest;
}

float exp_shifted(float* x, float shift, std::size_t n) {
  float sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - shift);
  return sum;
}

void scale(float* x, float factor, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] *= factor;
}

void add_product(const float* a, std::size_t a_row, std::size_t a_col, const float* b, std::size_t b_stride,
                 std::size_t rows, std::size_t depth, std::size_t cols, float* c, std::size_t c_stride) {
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t k = 0; k < depth; ++k)
      for (std::size_t j = 0; j < cols; ++j) c[i * c_stride + j] += a[i * a_row + k * a_col] * b[k * b_stride + j];
}

void absorb(float* scores, std::size_t stride, std::size_t rows, std::size_t queries, float* maximum, float* weight,
            float* shrink) {
  for (std::size_t q = 0; q < queries; ++q) {
    const float before = maximum[q];
    for (std::size_t j = 0; j < rows; ++j) maximum[q] = std::max(maximum[q], scores[j * stride + q]);
    // Not -infinity, where nothing is seen yet: -infinity less itself is no number.
    const float shift = std::max(maximum[q], std::numeric_limits<float>::lowest());
    shrink[q] = std::exp(before - shift);
    weight[q] *= shrink[q];
    for (std::size_t j = 0; j < rows; ++j) {
      float& score = scores[j * stride + q];
      weight[q] += score = std::exp(score - shift);
    }
  }
}

bool runs_here() { return true; }

template <Block B>
constexpr FormatKernels cached = {matmul<B>, nullptr, dots<B>, accumulate<B>, plain_encode<B>, plain_decode<B>};
template <Block B>
constexpr FormatKernels weights = {matmul<B>, nullptr, nullptr, nullptr, plain_encode<B>, plain_decode<B>};

std::size_t dot_rounds(std::size_t rounds) {
  static const q8_activation x = {1, {}, {}};
  static const q8_0 w = {to_f16(1), {}};
  float sum = 0;
  for (std::size_t i = 0; i < rounds; ++i) {
    sum += block_dot(w, &x);
    asm volatile("" ::: "memory");
  }
  asm volatile("" ::"m"(sum));
  return rounds * 32;
}

}  // namespace

extern const Table scalar;
const Table scalar = {
    .name = "scalar",
    .runs_here = runs_here,
    .formats = {cached<float>, cached<f16>, cached<bf16>, cached<q8_0>, weights<q4_0>, weights<q4_k>, weights<q6_k>},
    .quantise = quantise,
    .dot_rounds = dot_rounds,
    .dot = dot,
    .add = add,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .silu_multiply = silu_multiply,
    .gelu_tanh = gelu_tanh,
    .gelu = gelu,
    .max = max,
    .exp_shifted = exp_shifted,
    .scale = scale,
    .add_product = add_product,
    .absorb = absorb,
};

}  // namespace pith::kernel
