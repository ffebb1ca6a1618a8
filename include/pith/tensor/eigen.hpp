// SPDX-License-Identifier: MIT
// The one bridge to Eigen: views and tensors seen as Eigen maps, nothing copied. No other header includes Eigen.
#pragma once

#include <Eigen/Core>
#include <type_traits>

#include "pith/tensor/tensor.hpp"
#include "pith/tensor/view.hpp"

namespace pith::inline tensor {

template <class T>
using EigenMatrix = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
using EigenMap = Eigen::Map<std::conditional_t<std::is_const_v<T>, const EigenMatrix<T>, EigenMatrix<T>>,
                            Eigen::Unaligned, Eigen::OuterStride<>>;

template <class T>
EigenMap<T> to_eigen(View<T> view) {
  const auto index = [](std::size_t n) { return static_cast<Eigen::Index>(n); };
  return {view.data, index(view.rows), index(view.cols), Eigen::OuterStride<>(index(view.stride))};
}

template <class T>
EigenMap<T> to_eigen(Tensor<T>& tensor) {
  return to_eigen(tensor.view());
}

template <class T>
EigenMap<const T> to_eigen(const Tensor<T>& tensor) {
  return to_eigen(tensor.view());
}

}  // namespace pith::inline tensor
