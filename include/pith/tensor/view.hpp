// SPDX-License-Identifier: MIT
// A borrowed matrix: rows of `cols` contiguous numbers, `stride` apart.
#pragma once

#include <cassert>
#include <cstddef>
#include <span>
#include <type_traits>

namespace pith::inline tensor {

template <class T>
struct View {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;  // elements from one row to the next

  View() = default;
  View(T* values, std::size_t n_rows, std::size_t n_cols) : View(values, n_rows, n_cols, n_cols) {}
  View(T* values, std::size_t n_rows, std::size_t n_cols, std::size_t row_stride)
      : data(values), rows(n_rows), cols(n_cols), stride(row_stride) {}

  // NOLINTNEXTLINE(google-explicit-constructor): a view to read is what every view to write can be used as.
  operator View<const T>() const requires(!std::is_const_v<T>) { return {data, rows, cols, stride}; }

  std::span<T> operator[](std::size_t row) const {
    assert(row < rows);
    return {data + row * stride, cols};
  }

  View rows_from(std::size_t first, std::size_t count) const {
    assert(first + count <= rows);
    return {data + first * stride, count, cols, stride};
  }

  View cols_from(std::size_t first, std::size_t count) const {
    assert(first + count <= cols);
    return {data + first, rows, count, stride};
  }
};

}  // namespace pith::inline tensor
