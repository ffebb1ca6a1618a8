// SPDX-License-Identifier: MIT
// Rows of blocks, block by block by their traits; at any address.
#pragma once

#include <cstring>

#include "pith/tensor/format.hpp"

namespace pith::kernel {

template <Block B>
B block_at(const std::byte* row, std::size_t index) {
  B block;
  std::memcpy(&block, row + index * sizeof(B), sizeof(B));
  return block;
}

template <Block B>
void plain_decode(const std::byte* row, std::size_t n, float* values) {
  constexpr std::size_t step = BlockTraits<B>::values;
  for (std::size_t i = 0; i < n / step; ++i) BlockTraits<B>::decode(block_at<B>(row, i), values + i * step);
}

template <Block B>
void plain_encode(const float* values, std::size_t n, std::byte* row) {
  constexpr std::size_t step = BlockTraits<B>::values;
  for (std::size_t i = 0; i < n / step; ++i) {
    B block;
    BlockTraits<B>::encode(values + i * step, block);
    std::memcpy(row + i * sizeof(B), &block, sizeof(B));
  }
}

/// See FormatKernels; of the formats in blocks.
template <Block B>
void plain_matmul(const std::byte* w, std::size_t w_stride, std::size_t rows, const std::byte* x, std::size_t x_stride,
                  std::size_t tokens, std::size_t cols, float* y, std::size_t y_stride);

}  // namespace pith::kernel
