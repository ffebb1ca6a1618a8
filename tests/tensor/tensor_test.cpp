// SPDX-License-Identifier: MIT
#include "pith/tensor/tensor.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "pith/tensor/eigen.hpp"

namespace pith {
namespace {

TEST(Tensor, IsZeroAndAligned) {
  const Tensor<float> tensor(3, 5);
  for (std::size_t r = 0; r < 3; ++r)
    for (const float v : tensor[r]) EXPECT_EQ(v, 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64, 0u);
  EXPECT_EQ(Tensor<float>().data(), nullptr);
}

TEST(Tensor, ResizeReusesItsMemory) {
  Tensor<float> tensor(4, 8);
  const float* data = tensor.data();
  tensor.resize(2, 8);
  tensor.resize(8, 4);
  EXPECT_EQ(tensor.data(), data);
  EXPECT_EQ(tensor.rows(), 8u);
  const Tensor<float> moved = std::move(tensor);
  EXPECT_EQ(moved.data(), data);
}

TEST(View, PartsKeepTheStride) {
  Tensor<int> tensor(4, 6);
  const View<int> part = tensor.view().rows_from(1, 2).cols_from(2, 3);
  part[1][2] = 7;
  EXPECT_EQ(tensor[2][4], 7);
  const View<const int> read = part;
  EXPECT_EQ(read[1].size(), 3u);
  EXPECT_EQ(read[1][2], 7);
}

TEST(Eigen, SeesTheSameNumbers) {
  Tensor<float> tensor(2, 3);
  to_eigen(tensor) << 1, 2, 3, 4, 5, 6;
  EXPECT_EQ(tensor[1][0], 4);
  const auto part = to_eigen(tensor.view().cols_from(1, 2));
  EXPECT_EQ(part.sum(), 2 + 3 + 5 + 6);
  const Tensor<float>& read = tensor;
  EXPECT_EQ((to_eigen(read) * to_eigen(read).transpose())(0, 1), 4 + 10 + 18);
}

}  // namespace
}  // namespace pith
