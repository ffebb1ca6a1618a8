// SPDX-License-Identifier: MIT
// One table of function pointers per instruction set; the library calls kernels through the table in use.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "pith/tensor/format.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/tensor/panel.hpp"
#include "pith/tensor/tile.hpp"

namespace pith::kernels {

/// The kernels of one storage format, of which those of tiles are for formats of the cache alone, else null. Every
/// output is summed in an order that depends on its length alone, so that a result does not change with the rows,
/// tokens or queries computed beside it.
struct FormatKernels {
  /// y[t * y_stride + r] = w[r] . x[t]; w: `rows` rows, x: `tokens` rows of the format's Activation; strides of w and x
  /// in bytes, cols in numbers.
  void (*matmul)(const std::byte* w, std::size_t w_stride, std::size_t rows, const std::byte* x, std::size_t x_stride,
                 std::size_t tokens, std::size_t cols, float* y, std::size_t y_stride);
  /// See ops::prepare, dots and accumulate. No prepare: nothing to do.
  void (*prepare)(float* queries, std::size_t n_queries, std::size_t query_stride, std::size_t dim) = nullptr;
  void (*dots)(const float* queries, std::size_t n_queries, std::size_t query_stride, const std::byte* tile,
               std::size_t n_rows, std::size_t dim, float* scores, std::size_t score_stride,
               const std::byte* next) = nullptr;
  void (*accumulate)(const float* weights, std::size_t n_queries, std::size_t weight_stride, const std::byte* tile,
                     std::size_t n_rows, std::size_t dim, float* out, std::size_t out_stride,
                     const std::byte* next) = nullptr;
  /// See ops::key_panel and value_panel.
  void (*key_panel)(const std::byte* tile, std::size_t n_rows, std::size_t dim, KeyPanel& panel,
                    const std::byte* next) = nullptr;
  void (*value_panel)(const std::byte* tile, std::size_t n_rows, std::size_t dim, ValuePanel& panel,
                      const std::byte* next) = nullptr;
  void (*encode)(const float* values, std::size_t n, std::byte* row);
  void (*decode)(const std::byte* row, std::size_t n, float* values);
};

struct Table {
  const char* name;
  bool (*runs_here)();  // does this machine have the instructions?
  using FormatRows = std::array<FormatKernels, Formats::size>;
  FormatRows formats;
  /// n activations, a multiple of 32, for weights in blocks.
  void (*quantise)(const float* values, std::size_t n, q8_activation* out);
  /// `rounds` times the inner product of q8_0's matmul alone, on data in the first-level cache: the peak that the
  /// benchmarks compare with. Returns the multiply-adds done.
  std::size_t (*dot_rounds)(std::size_t rounds);
  float (*dot)(const float* a, const float* b, std::size_t n);
  void (*rms_norm)(const float* x, const float* weight, float eps, std::size_t n, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, std::size_t n, float* out);
  /// See ops::apply; one for each operation.
  using ElementwiseKernels =
      std::array<void (*)(float* x, const float* other, float number, std::size_t n), elementwise_count>;
  ElementwiseKernels elementwise;
  float (*max)(const float* x, std::size_t n);
  float (*exp_shifted)(float* x, float shift, std::size_t n);
  void (*hadamard)(float* x, std::size_t n);
  /// See ops::add_product, ops::absorb and ops::absorb_rows.
  void (*add_product)(const float* a, std::size_t a_row, std::size_t a_col, const float* b, std::size_t b_stride,
                      std::size_t rows, std::size_t depth, std::size_t cols, float* c, std::size_t c_stride);
  void (*absorb)(float* scores, std::size_t stride, std::size_t rows, std::size_t queries, float* maximum,
                 float* weight, float* shrink);
  void (*absorb_rows)(float* scores, std::size_t rows, std::size_t queries, float* maximum, float* weight,
                      float* shrink);
  /// See ops::multiply, ops::absorb and ops::weigh of panels.
  void (*multiply_panels)(const KeyPanel& keys, const KeyPanel& queries, std::size_t dim, float* scores);
  void (*absorb_panel)(float* scores, const ValuePanel& values, float* maximum, float* weight, WeightPanel& out);
  void (*weigh_panel)(const WeightPanel& weights, const ValuePanel& values, std::size_t dim, float* sums);
};

/// Those compiled into this binary, best first; scalar is always there, last.
std::span<const Table* const> tables();

/// The one in use: the first that runs here, until use() picks another.
const Table& table();
void use(const Table& table);

}  // namespace pith::kernels
