// SPDX-License-Identifier: MIT
// Rows of blocks, block by block by their traits; at any address.
#pragma once

#include <cstdint>
#include <cstring>

#include "pith/tensor/format.hpp"

namespace pith::kernels {

inline std::int32_t word_at(const void* p) {
  std::int32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

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

}  // namespace pith::kernels
