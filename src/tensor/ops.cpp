// SPDX-License-Identifier: MIT
#include "pith/tensor/ops.hpp"

#include <cassert>
#include <string>

#include "kernels/table.hpp"
#include "pith/error.hpp"
#include "pith/tensor/panel.hpp"

namespace pith::inline tensor {

std::string_view isa() { return kernels::table().name; }

std::vector<std::string_view> isas() {
  std::vector<std::string_view> names;
  for (const kernels::Table* table : kernels::tables())
    if (table->runs_here()) names.emplace_back(table->name);
  return names;
}

void use_isa(std::string_view name) {
  for (const kernels::Table* table : kernels::tables())
    if (table->name == name && table->runs_here()) return kernels::use(*table);
  std::string expected;
  for (const std::string_view known : isas()) expected.append(expected.empty() ? "" : ", ").append(known);
  fail(ErrorCode::unsupported, "instruction set", "one of " + expected, name);
}

namespace ops {
namespace {

const kernels::FormatKernels& kernels(Format format) {
  return kernels::table().formats[static_cast<std::size_t>(format)];
}

const kernels::FormatKernels& kernels(KvFormat format) { return kernels(storage(format)); }

}  // namespace

float dot(const float* a, const float* b, std::size_t n) { return kernels::table().dot(a, b, n); }

void rms_norm(const float* x, const float* weight, float eps, std::size_t n, float* out) {
  kernels::table().rms_norm(x, weight, eps, n, out);
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::size_t n, float* out) {
  kernels::table().layer_norm(x, weight, bias, eps, n, out);
}

float max(const float* x, std::size_t n) { return kernels::table().max(x, n); }

float exp_shifted(float* x, float shift, std::size_t n) { return kernels::table().exp_shifted(x, shift, n); }

void apply(Elementwise operation, float* x, const float* other, float number, std::size_t n) {
  kernels::table().elementwise[static_cast<std::size_t>(operation)](x, other, number, n);
}

void encode(Format format, const float* values, std::size_t n, std::byte* row) {
  assert(n % static_cast<std::size_t>(block_values(format)) == 0);
  kernels(format).encode(values, n, row);
}

void decode(Format format, const std::byte* row, std::size_t n, float* values) {
  assert(n % static_cast<std::size_t>(block_values(format)) == 0);
  kernels(format).decode(row, n, values);
}

void hadamard(float* x, std::size_t n) { kernels::table().hadamard(x, n); }

void prepare(KvFormat format, float* queries, std::size_t n_queries, std::size_t query_stride, std::size_t dim) {
  assert(dim % static_cast<std::size_t>(block_values(format)) == 0);
  if (spreads_keys(format))
    for (std::size_t q = 0; q < n_queries; ++q) hadamard(queries + q * query_stride, dim);
  if (kernels(format).prepare != nullptr) kernels(format).prepare(queries, n_queries, query_stride, dim);
}

void dots(KvFormat format, const float* queries, std::size_t n_queries, std::size_t query_stride, const std::byte* keys,
          std::size_t n_rows, std::size_t dim, float* scores, std::size_t score_stride, const std::byte* next) {
  assert(n_rows <= tile_rows && dim % static_cast<std::size_t>(block_values(format)) == 0);
  kernels(format).dots(queries, n_queries, query_stride, keys, n_rows, dim, scores, score_stride, next);
}

void accumulate(KvFormat format, const float* weights, std::size_t n_queries, std::size_t weight_stride,
                const std::byte* values, std::size_t n_rows, std::size_t dim, float* out, std::size_t out_stride,
                const std::byte* next) {
  assert(n_rows <= tile_rows && dim % static_cast<std::size_t>(block_values(format)) == 0);
  kernels(format).accumulate(weights, n_queries, weight_stride, values, n_rows, dim, out, out_stride, next);
}

void add_product(const float* a, std::size_t a_row, std::size_t a_col, const float* b, std::size_t b_stride,
                 std::size_t rows, std::size_t depth, std::size_t cols, float* c, std::size_t c_stride) {
  kernels::table().add_product(a, a_row, a_col, b, b_stride, rows, depth, cols, c, c_stride);
}

void absorb(float* scores, std::size_t stride, std::size_t rows, std::size_t queries, float* maximum, float* weight,
            float* shrink) {
  kernels::table().absorb(scores, stride, rows, queries, maximum, weight, shrink);
}

void absorb_rows(float* scores, std::size_t rows, std::size_t queries, float* maximum, float* weight, float* shrink) {
  assert(rows <= tile_rows);
  kernels::table().absorb_rows(scores, rows, queries, maximum, weight, shrink);
}

void key_panel(KvFormat format, const std::byte* tile, std::size_t n_rows, std::size_t dim, KeyPanel& panel,
               const std::byte* next) {
  assert(n_rows <= tile_rows && dim <= max_head_dim && dim % static_cast<std::size_t>(block_values(format)) == 0);
  kernels(format).key_panel(tile, n_rows, dim, panel, next);
}

void value_panel(KvFormat format, const std::byte* tile, std::size_t n_rows, std::size_t dim, ValuePanel& panel,
                 const std::byte* next) {
  assert(n_rows <= tile_rows && dim <= max_head_dim && dim % static_cast<std::size_t>(block_values(format)) == 0);
  kernels(format).value_panel(tile, n_rows, dim, panel, next);
}

void multiply(const KeyPanel& keys, const KeyPanel& queries, std::size_t dim, float* scores) {
  kernels::table().multiply_panels(keys, queries, dim, scores);
}

void absorb(float* scores, const ValuePanel& values, float* maximum, float* weight, WeightPanel& weights) {
  kernels::table().absorb_panel(scores, values, maximum, weight, weights);
}

void weigh(const WeightPanel& weights, const ValuePanel& values, std::size_t dim, float* sums) {
  kernels::table().weigh_panel(weights, values, dim, sums);
}

}  // namespace ops
}  // namespace pith::inline tensor
