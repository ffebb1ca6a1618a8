// SPDX-License-Identifier: MIT
// A weight: a matrix in a storage format, multiplied with activations without ever being decoded as a whole.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>

#include "pith/api.hpp"
#include "pith/tensor/format.hpp"
#include "pith/tensor/parallel.hpp"
#include "pith/tensor/tensor.hpp"
#include "pith/tensor/view.hpp"

namespace pith::inline tensor {

/// An immutable weight [rows, cols], row-major: out_features x in_features. Copies share the bytes, which may be a
/// mapped file that `owner` keeps alive. cols is a multiple of block_values(format).
class PITH_API Matrix {
 public:
  Matrix() = default;
  Matrix(Format format, std::size_t rows, std::size_t cols, std::span<const std::byte> bytes,
         std::shared_ptr<const void> owner);

  /// A copy of f32 values in `format`.
  static Matrix encode(Format format, View<const float> values);

  Format format() const { return format_; }
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t bytes() const { return rows_ * stride(); }
  std::size_t stride() const { return row_bytes(format_, cols_); }  // bytes from one row to the next
  const std::byte* data() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

  /// Rows [first, first + count) of the same bytes.
  Matrix rows_from(std::size_t first, std::size_t count) const;

  /// out[cols] = row `index`, decoded.
  void row(std::size_t index, std::span<float> out) const;

 private:
  Format format_ = Format::f32;
  std::size_t rows_ = 0, cols_ = 0;
  const std::byte* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

/// The right-hand side of matmul: f32 rows [tokens, features], and the same rows quantised once, on first use, for
/// the weights that want them so.
class PITH_API Activations {
 public:
  /// Room for `tokens` rows; what they held is gone.
  void resize(std::size_t tokens, std::size_t features);
  View<float> values() { return values_.view(); }
  View<const float> values() const { return values_.view(); }

  /// To be called after writing values(): forgets the quantised form.
  void changed() { quantised_ = false; }

  View<const q8_activation> quantised(const Threads& threads);

 private:
  Tensor<float> values_;
  std::size_t most_tokens_ = 0;  // ever: later quantised forms of so many rows find their memory
  Tensor<q8_activation> blocks_;
  bool quantised_ = false;
};

/// y[t][r] = w[r] . x[t] (+ bias[r]); y is [tokens, w.rows()].
struct Product {
  const Matrix& w;
  View<float> y;
  std::span<const float> bias = {};
};

/// Products of one x, worked on together. Every output is summed in the same order whatever the number of tokens, rows
/// and threads, so a batch equals its single rows bitwise.
PITH_API void matmul(std::span<const Product> products, Activations& x, const Threads& threads);
inline void matmul(std::initializer_list<Product> products, Activations& x, const Threads& threads) {
  matmul(std::span(products.begin(), products.size()), x, threads);
}
inline void matmul(const Matrix& w, Activations& x, View<float> y, const Threads& threads,
                   std::span<const float> bias = {}) {
  matmul({{w, y, bias}}, x, threads);
}

}  // namespace pith::inline tensor
