// SPDX-License-Identifier: MIT
// An owned matrix of plain values, aligned for vector loads.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "pith/tensor/view.hpp"

namespace pith::inline tensor {

/// Rows x cols values of a trivial type, 64-byte aligned. Values are zero after construction and indeterminate after
/// a resize that grows; resize never gives memory back, so steady use allocates nothing.
template <class T>
class Tensor {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Tensor() = default;
  Tensor(std::size_t rows, std::size_t cols) {
    resize(rows, cols);
    if (rows * cols > 0) std::memset(static_cast<void*>(data_.get()), 0, rows * cols * sizeof(T));
  }

  void resize(std::size_t rows, std::size_t cols) {
    if (rows * cols > capacity_) {
      capacity_ = rows_ = cols_ = 0;  // where there is no memory for more
      data_.reset();
      data_.reset(static_cast<T*>(::operator new(rows* cols * sizeof(T), alignment)));
      capacity_ = rows * cols;
    }
    rows_ = rows;
    cols_ = cols;
  }

  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

  View<T> view() { return {data_.get(), rows_, cols_}; }
  View<const T> view() const { return {data_.get(), rows_, cols_}; }
  std::span<T> operator[](std::size_t row) { return view()[row]; }
  std::span<const T> operator[](std::size_t row) const { return view()[row]; }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t capacity_ = 0;  // values
  std::size_t rows_ = 0, cols_ = 0;
};

}  // namespace pith::inline tensor
