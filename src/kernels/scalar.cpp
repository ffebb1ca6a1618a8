// SPDX-License-Identifier: MIT
// The plain twin of every kernel: the formula as a loop. Rows of blocks may lie at any address.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/plain_panels.hpp"
#include "kernels/plain_rows.hpp"
#include "kernels/table.hpp"
#include "kernels/vocabulary.hpp"

namespace pith::kernels {
namespace {
using namespace twin;  // what formulas are written in
}
}  // namespace pith::kernels

#include "kernels/elementwise.hpp"

namespace pith::kernels {
namespace {

template <Block B>
void matmul(const std::byte* w, std::size_t w_stride, std::size_t rows, const std::byte* x, std::size_t x_stride,
            std::size_t tokens, std::size_t cols, float* y, std::size_t y_stride) {
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t r = 0; r < rows; ++r) {
      const auto* vector = static_cast<const float*>(static_cast<const void*>(x + t * x_stride));
      float sum = 0;
      for (std::size_t i = 0; i < cols; ++i) sum += to_float(block_at<B>(w + r * w_stride, i)) * vector[i];
      y[t * y_stride + r] = sum;
    }
}

/// w . x of a block of w, decoded, part by part.
template <std::size_t values>
float block_dot(const float (&w)[values], const q8_activation* x) {
  constexpr std::size_t part_values = BlockTraits<q8_activation>::values;
  float sum = 0;
  for (std::size_t first = 0; first < values; first += part_values, ++x) {
    float products = 0;
    for (std::size_t i = 0; i < part_values; ++i) products += w[first + i] * static_cast<float>(x->quants[i]);
    sum += x->scale * products;
  }
  return sum;
}

template <Block B>
void matmul_blocks(const std::byte* w, std::size_t w_stride, std::size_t rows, const std::byte* x, std::size_t x_stride,
                   std::size_t tokens, std::size_t cols, float* y, std::size_t y_stride) {
  constexpr std::size_t values = BlockTraits<B>::values, parts = values / BlockTraits<q8_activation>::values;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t t = 0; t < tokens; ++t) y[t * y_stride + r] = 0;
    for (std::size_t b = 0; b < cols / values; ++b) {
      float decoded[values];
      BlockTraits<B>::decode(block_at<B>(w + r * w_stride, b), decoded);
      for (std::size_t t = 0; t < tokens; ++t) {
        const auto* vector = static_cast<const q8_activation*>(static_cast<const void*>(x + t * x_stride));
        y[t * y_stride + r] += block_dot(decoded, vector + b * parts);
      }
    }
  }
}

void quantise(const float* values, std::size_t n, q8_activation* out) {
  for (std::size_t i = 0; i < n / 32; ++i) BlockTraits<q8_activation>::encode(values + i * 32, out[i]);
}

/// Number `column` of a row of a tile: of numbers, of keys and of values in squares.
template <Block B>
float number_at(const std::byte* tile, std::size_t dim, std::size_t row, std::size_t column) {
  return to_float(block_at<B>(tile, row * dim + column));
}

template <class Square>
const Square& square_at(const std::byte* tile, std::size_t column) {
  return static_cast<const Square*>(static_cast<const void*>(tile))[column / 32];
}

template <class Square>
float key_at(const std::byte* tile, std::size_t, std::size_t row, std::size_t column) {
  const Square& square = square_at<Square>(tile, column);
  return to_float(square.scales[row]) * static_cast<float>(square.raw(column % 32, row) - Square::middle);
}

template <class Square>
float value_at(const std::byte* tile, std::size_t, std::size_t row, std::size_t column) {
  const Square& square = square_at<Square>(tile, column);
  return to_float(square.scales[row]) * static_cast<float>(square.raw(row, column % 32) - Square::middle);
}

template <auto at>
void dots(const float* queries, std::size_t n_queries, std::size_t query_stride, const std::byte* tile,
          std::size_t n_rows, std::size_t dim, float* scores, std::size_t score_stride, const std::byte*) {
  for (std::size_t q = 0; q < n_queries; ++q)
    for (std::size_t j = 0; j < n_rows; ++j) {
      float sum = 0;
      for (std::size_t i = 0; i < dim; ++i) sum += queries[q * query_stride + i] * at(tile, dim, j, i);
      scores[q * score_stride + j] = sum;
    }
}

template <auto at>
void accumulate(const float* weights, std::size_t n_queries, std::size_t weight_stride, const std::byte* tile,
                std::size_t n_rows, std::size_t dim, float* out, std::size_t out_stride, const std::byte*) {
  for (std::size_t q = 0; q < n_queries; ++q)
    for (std::size_t j = 0; j < n_rows; ++j)
      for (std::size_t i = 0; i < dim; ++i)
        out[q * out_stride + i] += weights[q * weight_stride + j] * at(tile, dim, j, i);
}

template <auto at>
void key_panel(const std::byte* tile, std::size_t n_rows, std::size_t dim, KeyPanel& panel, const std::byte*) {
  float most[tile_rows] = {}, squares[tile_rows] = {}, inverses[tile_rows];
  for (std::size_t j = 0; j < n_rows; ++j)
    for (std::size_t i = 0; i < dim; ++i) {
      const float x = at(tile, dim, j, i);
      most[j] = std::max(most[j], std::fabs(x));
      squares[j] += x * x;
    }
  set_steps(most, squares, n_rows, panel, inverses);
  const auto number = [&](std::size_t j, std::size_t i) {
    return j < n_rows && i < dim ? integer(at(tile, dim, j, i) * inverses[j]) : 0;
  };
  for (std::size_t i = 0; i < panel_dim(dim); i += 2)
    for (std::size_t j = 0; j < tile_rows; ++j) panel.pairs[i / 2][j] = pair_of(number(j, i), number(j, i + 1));
}

template <auto at>
void value_panel(const std::byte* tile, std::size_t n_rows, std::size_t dim, ValuePanel& panel, const std::byte*) {
  float most[tile_rows] = {}, inverses[tile_rows];
  for (std::size_t j = 0; j < n_rows; ++j)
    for (std::size_t i = 0; i < dim; ++i) most[j] = std::max(most[j], std::fabs(at(tile, dim, j, i)));
  set_levels(most, panel, inverses);
  const auto number = [&](std::size_t j, std::size_t i) {
    return j < n_rows && i < dim ? integer(at(tile, dim, j, i) * inverses[j]) : 0;
  };
  for (std::size_t j = 0; j < tile_rows; j += 2)
    for (std::size_t i = 0; i < panel_dim(dim); ++i)
      panel.pairs[j / 2 * panel_dim(dim) + i] = pair_of(number(j, i), number(j + 1, i));
}

int product(Pair a, Pair b) { return first_of(a) * first_of(b) + second_of(a) * second_of(b); }

void multiply_panels(const KeyPanel& keys, const KeyPanel& queries, std::size_t dim, float* scores) {
  for (std::size_t j = 0; j < tile_rows; ++j)
    for (std::size_t q = 0; q < tile_rows; ++q) {
      int sum = 0;
      for (std::size_t k = 0; k < (dim + 1) / 2; ++k) sum += product(keys.pairs[k][j], queries.pairs[k][q]);
      scores[j * tile_rows + q] = static_cast<float>(sum) * (keys.steps[j] * queries.steps[q]);
    }
}

void absorb_panel(float* scores, const ValuePanel& values, float* maximum, float* weight, WeightPanel& out) {
  constexpr float log2_e = 1.44269504f, least = -1e30f, infinity = std::numeric_limits<float>::infinity();
  for (std::size_t q = 0; q < tile_rows; ++q) {
    float e[tile_rows], most = -infinity, total = 0, sum = 0;
    for (std::size_t j = 0; j < tile_rows; ++j) {
      e[j] = scores[j * tile_rows + q] * log2_e + values.levels[j];
      most = std::max(most, e[j]);
    }
    for (std::size_t j = 0; j < tile_rows; ++j) {
      e[j] = std::exp2(e[j] - std::max(most, least));
      total += e[j];
      sum += e[j] * values.inverses[j];
    }
    const float factor = std::min(largest_whole, most_together / total);
    for (std::size_t j = 0; j < tile_rows; j += 2)
      out.pairs[j / 2][q] = pair_of(integer(e[j] * factor), integer(e[j + 1] * factor));
    const float before = maximum[q];
    maximum[q] = std::max(before, most);
    const float shift = std::max(maximum[q], least), gain = std::exp2(most - shift);
    out.shrink[q] = std::exp2(before - shift);
    weight[q] = weight[q] * out.shrink[q] + sum * gain;
    out.gains[q] = gain * values.step / factor;
  }
}

void weigh_panel(const WeightPanel& weights, const ValuePanel& values, std::size_t dim, float* sums) {
  for (std::size_t i = 0; i < dim; ++i)
    for (std::size_t q = 0; q < tile_rows; ++q) {
      int sum = 0;
      for (std::size_t k = 0; k < tile_rows / 2; ++k)
        sum += product(weights.pairs[k][q], values.pairs[k * panel_dim(dim) + i]);
      float& to = sums[i * tile_rows + q];
      to = to * weights.shrink[q] + static_cast<float>(sum) * weights.gains[q];
    }
}

float dot(const float* a, const float* b, std::size_t n) {
  float sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
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

template <Elementwise operation>
struct Looped {
  static void run(float* x, const float* other, float number, std::size_t n) {
    using Of = Formula<operation>;
    for (std::size_t i = 0; i < n; ++i) {
      if constexpr (takes(Of::vector) == Takes::nothing) x[i] = Of::plain(x[i]);
      if constexpr (takes(Of::vector) == Takes::other) x[i] = Of::plain(x[i], other[i]);
      if constexpr (takes(Of::vector) == Takes::number) x[i] = Of::plain(x[i], number);
    }
  }
};

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

void hadamard(float* x, std::size_t n) {
  for (std::size_t size = std::bit_floor(n); n > 0; x += size, n -= size, size = std::bit_floor(n)) {
    for (std::size_t apart = 1; apart < size; apart *= 2)
      for (std::size_t i = 0; i < size; ++i)
        if ((i & apart) == 0) {
          const float a = x[i], b = x[i + apart];
          x[i] = a + b;
          x[i + apart] = a - b;
        }
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    for (std::size_t i = 0; i < size; ++i) x[i] *= scale;
  }
}

void add_product(const float* a, std::size_t a_row, std::size_t a_col, const float* b, std::size_t b_stride,
                 std::size_t rows, std::size_t depth, std::size_t cols, float* c, std::size_t c_stride) {
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t k = 0; k < depth; ++k)
      for (std::size_t j = 0; j < cols; ++j) c[i * c_stride + j] += a[i * a_row + k * a_col] * b[k * b_stride + j];
}

/// A turn of the online softmax of one query, whose scores lie `stride` apart.
void absorb_query(float* scores, std::size_t stride, std::size_t rows, float& maximum, float& weight, float& shrink) {
  const float before = maximum;
  for (std::size_t j = 0; j < rows; ++j) maximum = std::max(maximum, scores[j * stride]);
  // Not -infinity, where nothing is seen yet: -infinity less itself is no number.
  const float shift = std::max(maximum, std::numeric_limits<float>::lowest());
  shrink = std::exp(before - shift);
  weight *= shrink;
  for (std::size_t j = 0; j < rows; ++j) weight += scores[j * stride] = std::exp(scores[j * stride] - shift);
}

void absorb(float* scores, std::size_t stride, std::size_t rows, std::size_t queries, float* maximum, float* weight,
            float* shrink) {
  for (std::size_t q = 0; q < queries; ++q) absorb_query(scores + q, stride, rows, maximum[q], weight[q], shrink[q]);
}

void absorb_rows(float* scores, std::size_t rows, std::size_t queries, float* maximum, float* weight, float* shrink) {
  for (std::size_t q = 0; q < queries; ++q) {
    float* const row = scores + q * tile_rows;
    absorb_query(row, 1, rows, maximum[q], weight[q], shrink[q]);
    std::fill(row + rows, row + tile_rows, 0.0f);
  }
}

bool runs_here() { return true; }

template <Block B>
constexpr FormatKernels numbers = {.matmul = matmul<B>,
                                   .dots = dots<number_at<B>>,
                                   .accumulate = accumulate<number_at<B>>,
                                   .key_panel = key_panel<number_at<B>>,
                                   .value_panel = value_panel<number_at<B>>,
                                   .encode = plain_encode<B>,
                                   .decode = plain_decode<B>};
template <Block B>
constexpr FormatKernels squares = {.matmul = matmul_blocks<B>,
                                   .dots = dots<key_at<typename SquareOf<B>::type>>,
                                   .accumulate = accumulate<value_at<typename SquareOf<B>::type>>,
                                   .key_panel = key_panel<key_at<typename SquareOf<B>::type>>,
                                   .value_panel = value_panel<value_at<typename SquareOf<B>::type>>,
                                   .encode = plain_encode<B>,
                                   .decode = plain_decode<B>};
template <Block B>
constexpr FormatKernels weights = {.matmul = matmul_blocks<B>, .encode = plain_encode<B>, .decode = plain_decode<B>};

template <Block B>
constexpr FormatKernels kernels_of() {
  if constexpr (!std::is_void_v<typename SquareOf<B>::type>)
    return squares<B>;
  else if constexpr (std::is_same_v<typename BlockTraits<B>::Activation, float>)
    return numbers<B>;
  else
    return weights<B>;
}

std::size_t dot_rounds(std::size_t rounds) {
  static const q8_activation x = {1, {}, {}};
  static const float w[32] = {1};
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
    .formats = []<class... B>(TypeList<B...>) { return Table::FormatRows{kernels_of<B>()...}; }(Formats()),
    .quantise = quantise,
    .dot_rounds = dot_rounds,
    .dot = dot,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .elementwise = elementwise_kernels<Looped>,
    .max = max,
    .exp_shifted = exp_shifted,
    .hadamard = hadamard,
    .add_product = add_product,
    .absorb = absorb,
    .absorb_rows = absorb_rows,
    .multiply_panels = multiply_panels,
    .absorb_panel = absorb_panel,
    .weigh_panel = weigh_panel,
};

}  // namespace pith::kernels
