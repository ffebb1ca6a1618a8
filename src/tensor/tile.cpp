// SPDX-License-Identifier: MIT
#include "pith/tensor/tile.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "pith/tensor/ops.hpp"

namespace pith::inline tensor {

namespace {

constexpr std::size_t block_size = 32;  // of every square

/// Calls f.template operator()<Square>() for a format in squares; false: its rows lie one by one.
template <class F>
bool in_squares(KvFormat format, F&& f) {
  return visit(format, [&]<Block B>() {
    using Square = typename SquareOf<B>::type;
    if constexpr (std::is_void_v<Square>) {
      return false;
    } else {
      static_assert(BlockTraits<B>::values == block_size);
      f.template operator()<Square>();
      return true;
    }
  });
}

template <class Square>
Square* squares(std::byte* tile) {
  return static_cast<Square*>(static_cast<void*>(tile));
}
template <class Square>
const Square* squares(const std::byte* tile) {
  return static_cast<const Square*>(static_cast<const void*>(tile));
}

/// Where column c of a row lies in a square: first what is summed over.
struct Place {
  std::size_t i, j;
};
Place place(Side side, std::size_t row, std::size_t c) { return side == Side::keys ? Place{c, row} : Place{row, c}; }

bool spreads(KvFormat format, Side side) { return side == Side::keys && spreads_keys(format); }

}  // namespace

const float* as_stored(KvFormat format, Side side, const float* numbers, std::size_t dim, float* room) {
  if (!spreads(format, side)) return numbers;
  assert(dim <= max_head_dim);
  std::copy_n(numbers, dim, room);
  ops::hadamard(room, dim);
  return room;
}

void store_row(KvFormat format, Side side, const float* numbers, std::size_t dim, std::byte* tile, std::size_t row) {
  float room[max_head_dim];
  numbers = as_stored(format, side, numbers, dim, room);
  const bool stored = in_squares(format, [&]<class Square>() {
    for (std::size_t b = 0; b < dim / block_size; ++b) {
      typename Square::Blocks block;
      ops::encode(storage(format), numbers + b * block_size, block_size,
                  static_cast<std::byte*>(static_cast<void*>(&block)));
      Square& square = squares<Square>(tile)[b];
      square.scales[row] = block.scale;
      for (std::size_t c = 0; c < block_size; ++c) {
        const auto [i, j] = place(side, row, c);
        square.set_raw(i, j, Square::raw(block, c));
      }
    }
  });
  if (!stored) ops::encode(storage(format), numbers, dim, tile + row * row_bytes(format, dim));
}

void load_row(KvFormat format, Side side, std::size_t dim, const std::byte* tile, std::size_t row, float* numbers) {
  const bool loaded = in_squares(format, [&]<class Square>() {
    for (std::size_t b = 0; b < dim / block_size; ++b) {
      const Square& square = squares<Square>(tile)[b];
      typename Square::Blocks block;
      block.scale = square.scales[row];
      for (std::size_t c = 0; c < block_size; ++c) {
        const auto [i, j] = place(side, row, c);
        Square::set_raw(block, c, square.raw(i, j));
      }
      BlockTraits<typename Square::Blocks>::decode(block, numbers + b * block_size);
    }
  });
  if (!loaded) ops::decode(storage(format), tile + row * row_bytes(format, dim), dim, numbers);
  if (spreads(format, side)) ops::hadamard(numbers, dim);
}

void copy_row(KvFormat format, Side side, std::size_t dim, std::byte* tile, std::size_t row, const std::byte* from,
              std::size_t from_row) {
  const bool copied = in_squares(format, [&]<class Square>() {
    for (std::size_t b = 0; b < dim / block_size; ++b) {
      Square& square = squares<Square>(tile)[b];
      const Square& source = squares<Square>(from)[b];
      square.scales[row] = source.scales[from_row];
      for (std::size_t c = 0; c < block_size; ++c) {
        const auto [i, j] = place(side, row, c);
        const auto [from_i, from_j] = place(side, from_row, c);
        square.set_raw(i, j, source.raw(from_i, from_j));
      }
    }
  });
  if (copied) return;
  const std::size_t bytes = row_bytes(format, dim);
  std::memcpy(tile + row * bytes, from + from_row * bytes, bytes);
}

bool fits(KvFormat format, Side side, const float* numbers, std::size_t dim) {
  // As integers, so that compilers take several at once: magnitudes of floats are ordered as their bits are.
  constexpr std::int32_t infinity = 0x7f800000, number = 0x7fffffff;
  std::int32_t infinite = infinity;
  float room[max_head_dim];
  if (const float* const stored = as_stored(format, side, numbers, dim, room); stored != numbers) {
    // Of finite numbers a sum that is not finite does not fit, either.
    int strange = 0;
    for (std::size_t i = 0; i < dim; ++i)
      strange |= int{(std::bit_cast<std::int32_t>(numbers[i]) & number) >= infinity};
    if (strange == 0) infinite = number;
    numbers = stored;
  }
  const auto least = std::bit_cast<std::int32_t>(overflow(format));
  int beyond = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    const std::int32_t magnitude = std::bit_cast<std::int32_t>(numbers[i]) & number;
    beyond |= int{magnitude >= least} & int{magnitude < infinite};
  }
  return beyond == 0;
}

}  // namespace pith::inline tensor
