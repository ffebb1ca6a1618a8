// SPDX-License-Identifier: MIT
#include "pith/tensor/matrix.hpp"

#include <algorithm>
#include <cassert>
#include <limits>
#include <string>
#include <utility>

#include "kernels/table.hpp"
#include "pith/error.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::inline tensor {
namespace {

std::string shape(Format format, std::size_t rows, std::size_t cols) {
  return "matrix " + std::string(name(format)) + " [" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

// Weights per task: enough to outlast the cost of handing out tasks, few enough to stay in a core's second-level cache
// while all tokens pass over them.
constexpr std::size_t smallest_panel = std::size_t{1} << 15;  // bytes, times tokens
constexpr std::size_t largest_panel = std::size_t{1} << 18;   // bytes

/// How products are cut into tasks.
struct Cut {
  std::size_t shares;    // of each thread
  std::size_t row_tile;  // rows are a multiple of: what every kernel computes at once, or a multiple of that
};
constexpr Cut cut_of_one = {.shares = 4, .row_tile = 16};
// Of several tokens, which take long enough for no thread to wait for another's last task.
constexpr Cut cut_of_many = {.shares = 16, .row_tile = 32};

std::size_t rows_per_task(const Matrix& w, std::size_t tokens, const Threads& threads) {
  const auto [shares, row_tile] = tokens == 1 ? cut_of_one : cut_of_many;
  const std::size_t share = w.bytes() / (shares * static_cast<std::size_t>(threads.count()));
  const std::size_t bytes = std::clamp(share, smallest_panel / tokens, largest_panel);
  return std::max(bytes / w.stride() / row_tile, std::size_t{1}) * row_tile;
}

/// Rows [first, first + panel) of w, or as many as there are.
void multiply(const Product& product, Activations& x, const Threads& threads, std::size_t first, std::size_t panel) {
  const Matrix& w = product.w;
  const View<float> y = product.y;
  const std::size_t count = std::min(panel, w.rows() - first);
  const auto with = [&]<class X>(View<const X> rows) {
    kernels::table().formats[static_cast<std::size_t>(w.format())].matmul(
        w.data() + first * w.stride(), w.stride(), count, reinterpret_cast<const std::byte*>(rows.data),
        rows.stride * sizeof(X), rows.rows, w.cols(), y.data + first, y.stride);
  };
  wants_quantised(w.format()) ? with(x.quantised(threads)) : with(std::as_const(x).values());
  if (product.bias.empty()) return;
  for (std::size_t t = 0; t < y.rows; ++t) ops::add(y[t].data() + first, product.bias.data() + first, count);
}

}  // namespace

Matrix::Matrix(Format format, std::size_t rows, std::size_t cols, std::span<const std::byte> bytes,
               std::shared_ptr<const void> owner)
    : format_(format), rows_(rows), cols_(cols), data_(bytes.data()), owner_(std::move(owner)) {
  const auto values = static_cast<std::size_t>(block_values(format));
  if (cols % values != 0)
    fail(ErrorCode::format, shape(format, rows, cols), "columns in multiples of " + std::to_string(values),
         std::to_string(cols));
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  const bool countable = cols / values <= most / block_bytes(format) && (cols == 0 || rows <= most / stride());
  if (!countable || this->bytes() != bytes.size())
    fail(ErrorCode::format, shape(format, rows, cols),
         countable ? std::to_string(this->bytes()) + " bytes" : "a size that can be addressed",
         std::to_string(bytes.size()) + " bytes");
  const std::size_t alignment = visit(format, []<Block B>() { return alignof(B); });
  if (reinterpret_cast<std::uintptr_t>(data_) % alignment != 0)
    fail(ErrorCode::format, shape(format, rows, cols), "data aligned to " + std::to_string(alignment) + " bytes",
         "an address that is not");
}

Matrix Matrix::encode(Format format, View<const float> values) {
  const auto storage = std::make_shared<Tensor<std::byte>>();
  storage->resize(values.rows, row_bytes(format, values.cols));
  Matrix matrix(format, values.rows, values.cols, {storage->data(), values.rows * storage->cols()}, storage);
  for (std::size_t r = 0; r < values.rows; ++r)
    ops::encode(format, values[r].data(), values.cols, (*storage)[r].data());
  return matrix;
}

Matrix Matrix::rows_from(std::size_t first, std::size_t count) const {
  assert(first + count <= rows_);
  return {format_, count, cols_, {data_ + first * stride(), count * stride()}, owner_};
}

void Matrix::row(std::size_t index, std::span<float> out) const {
  assert(index < rows_ && out.size() == cols_);
  ops::decode(format_, data_ + index * stride(), cols_, out.data());
}

void Activations::resize(std::size_t tokens, std::size_t features) {
  values_.resize(tokens, features);
  most_tokens_ = std::max(most_tokens_, tokens);
  changed();
}

View<const q8_activation> Activations::quantised(const Threads& threads) {
  constexpr std::size_t block = BlockTraits<q8_activation>::values;
  if (!quantised_) {
    assert(values_.cols() % block == 0);
    blocks_.resize(most_tokens_, values_.cols() / block);
    blocks_.resize(values_.rows(), values_.cols() / block);
    threads.run_rows(values_.rows(), values_.cols(), 16, [&](std::size_t t) {
      kernels::table().quantise(values_[t].data(), values_.cols(), blocks_[t].data());
    });
    quantised_ = true;
  }
  return std::as_const(blocks_).view();
}

void matmul(std::span<const Product> products, Activations& x, const Threads& threads) {
  const View<const float> floats = std::as_const(x).values();
  if (floats.rows == 0) return;
  std::size_t tasks = 0, work = 0;
  for (const Product& product : products) {
    const Matrix& w = product.w;
    assert(floats.cols == w.cols() && product.y.cols == w.rows() && product.y.rows == floats.rows);
    assert(product.bias.empty() || product.bias.size() == w.rows());
    const std::size_t panel = rows_per_task(w, floats.rows, threads);
    tasks += (w.rows() + panel - 1) / panel;
    work += w.rows() * w.cols() * floats.rows;
    if (wants_quantised(w.format())) x.quantised(threads);
  }
  threads.run(tasks, work, [&](std::size_t index) {
    for (const Product& product : products) {
      const std::size_t panel = rows_per_task(product.w, floats.rows, threads);
      const std::size_t panels = (product.w.rows() + panel - 1) / panel;
      if (index < panels) return multiply(product, x, threads, index * panel, panel);
      index -= panels;
    }
  });
}

}  // namespace pith::inline tensor
