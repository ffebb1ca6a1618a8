// SPDX-License-Identifier: MIT
#include "pith/tensor/tile.hpp"

#include <bit>
#include <cstdint>
#include <cstring>

#include "pith/tensor/ops.hpp"

namespace pith::inline tensor {

namespace {

constexpr std::size_t block_size = BlockTraits<q8_0>::values;

q8_0_square* squares(std::byte* tile) { return static_cast<q8_0_square*>(static_cast<void*>(tile)); }
const q8_0_square* squares(const std::byte* tile) {
  return static_cast<const q8_0_square*>(static_cast<const void*>(tile));
}

/// Byte `column` of the row in a square.
template <class Square>
auto& byte_at(Square& square, Side side, std::size_t row, std::size_t column) {
  return side == Side::keys ? square.quants[column / 4][row][column % 4] : square.quants[row / 4][column][row % 4];
}

}  // namespace

void store_row(KvFormat format, Side side, const float* numbers, std::size_t dim, std::byte* tile, std::size_t row) {
  if (format != KvFormat::q8_0) return ops::encode(storage(format), numbers, dim, tile + row * row_bytes(format, dim));
  for (std::size_t b = 0; b < dim / block_size; ++b) {
    q8_0 block;
    ops::encode(Format::q8_0, numbers + b * block_size, block_size,
                static_cast<std::byte*>(static_cast<void*>(&block)));
    q8_0_square& square = squares(tile)[b];
    square.scales[row] = block.scale;
    for (std::size_t i = 0; i < block_size; ++i)
      byte_at(square, side, row, i) = static_cast<std::uint8_t>(block.quants[i] + 128);
  }
}

void load_row(KvFormat format, Side side, std::size_t dim, const std::byte* tile, std::size_t row, float* numbers) {
  if (format != KvFormat::q8_0) return ops::decode(storage(format), tile + row * row_bytes(format, dim), dim, numbers);
  for (std::size_t b = 0; b < dim / block_size; ++b) {
    const q8_0_square& square = squares(tile)[b];
    q8_0 block;
    block.scale = square.scales[row];
    for (std::size_t i = 0; i < block_size; ++i)
      block.quants[i] = static_cast<std::int8_t>(byte_at(square, side, row, i) - 128);
    BlockTraits<q8_0>::decode(block, numbers + b * block_size);
  }
}

void copy_row(KvFormat format, Side side, std::size_t dim, std::byte* tile, std::size_t row, const std::byte* from,
              std::size_t from_row) {
  if (format != KvFormat::q8_0) {
    const std::size_t bytes = row_bytes(format, dim);
    std::memcpy(tile + row * bytes, from + from_row * bytes, bytes);
    return;
  }
  for (std::size_t b = 0; b < dim / block_size; ++b) {
    q8_0_square& square = squares(tile)[b];
    const q8_0_square& source = squares(from)[b];
    square.scales[row] = source.scales[from_row];
    for (std::size_t i = 0; i < block_size; ++i) byte_at(square, side, row, i) = byte_at(source, side, from_row, i);
  }
}

bool fits(KvFormat format, const float* numbers, std::size_t n) {
  // As integers, so that compilers take several at once: magnitudes of floats are ordered as their bits are.
  constexpr std::int32_t infinite = 0x7f800000;
  const auto least = std::bit_cast<std::int32_t>(overflow(format));
  int beyond = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t magnitude = std::bit_cast<std::int32_t>(numbers[i]) & 0x7fffffff;
    beyond |= int{magnitude >= least} & int{magnitude < infinite};
  }
  return beyond == 0;
}

}  // namespace pith::inline tensor
