// SPDX-License-Identifier: MIT
// Tiles: the keys, or the values, of up to 32 rows of one head as a page of the cache holds them, in the order in which
// attention multiplies them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/kv_format.hpp"

namespace pith::inline tensor {

inline constexpr std::size_t tile_rows = 32;

/// The most numbers of a row of one head: what buffers on a stack have room for.
inline constexpr std::size_t max_head_dim = 256;

enum class Side : std::uint8_t { keys, values };

// A square is 32 columns of a tile of a format in blocks. Attention sums over a key's columns, and over the rows of
// values: with i what is summed over and j the other, raw(i, j) is the quant of (i, j), raised by `middle` to be no
// less than 0. Four neighbours in i lie side by side, as instructions multiply four unsigned bytes with four others. In
// formats of single numbers a tile is its rows, one by one.

struct q8_0_square {
  using Blocks = q8_0;
  static constexpr int middle = 128;

  f16 scales[tile_rows];
  std::uint8_t quants[8][32][4];  // [i / 4][j][i % 4]

  int raw(std::size_t i, std::size_t j) const { return quants[i / 4][j][i % 4]; }
  void set_raw(std::size_t i, std::size_t j, int to) { quants[i / 4][j][i % 4] = static_cast<std::uint8_t>(to); }

  static int raw(const q8_0& block, std::size_t i) { return block.quants[i] + middle; }
  static void set_raw(q8_0& block, std::size_t i, int to) { block.quants[i] = static_cast<std::int8_t>(to - middle); }
};
static_assert(sizeof(q8_0_square) == tile_rows * sizeof(q8_0));

/// Of each byte, the low four bits are of i < 16, the high ones of i + 16.
struct q4_0_square {
  using Blocks = q4_0;
  static constexpr int middle = 8;

  f16 scales[tile_rows];
  std::uint8_t nibbles[4][32][4];  // [i / 4 % 4][j][i % 4]

  int raw(std::size_t i, std::size_t j) const { return nibbles[i / 4 % 4][j][i % 4] >> shift(i) & 15; }
  void set_raw(std::size_t i, std::size_t j, int to) {
    std::uint8_t& both = nibbles[i / 4 % 4][j][i % 4];
    both = static_cast<std::uint8_t>((both & ~(15 << shift(i))) | to << shift(i));
  }

  static int raw(const q4_0& block, std::size_t i) { return block.nibbles[i % 16] >> shift(i) & 15; }
  static void set_raw(q4_0& block, std::size_t i, int to) {
    std::uint8_t& both = block.nibbles[i % 16];
    both = static_cast<std::uint8_t>((both & ~(15 << shift(i))) | to << shift(i));
  }

 private:
  static constexpr int shift(std::size_t i) { return i < 16 ? 0 : 4; }
};
static_assert(sizeof(q4_0_square) == tile_rows * sizeof(q4_0));

/// The square of a format's blocks; void: it has none.
template <Block B>
struct SquareOf {
  using type = void;
};
template <>
struct SquareOf<q8_0> {
  using type = q8_0_square;
};
template <>
struct SquareOf<q4_0> {
  using type = q4_0_square;
};

/// Bytes of a tile of rows of `dim` numbers; dim is a multiple of block_values(format).
constexpr std::size_t tile_bytes(KvFormat format, std::size_t dim) { return tile_rows * row_bytes(format, dim); }

/// Writes the row from `dim` numbers; no other row of the tile changes. Keys of a format that spreads them are spread
/// here, and gathered again by load_row: whoever reads rows finds the keys that were written.
PITH_API void store_row(KvFormat format, Side side, const float* numbers, std::size_t dim, std::byte* tile,
                        std::size_t row);

/// Reads the row's `dim` numbers.
PITH_API void load_row(KvFormat format, Side side, std::size_t dim, const std::byte* tile, std::size_t row,
                       float* numbers);

/// Writes the row as row `from_row` of tile `from`.
PITH_API void copy_row(KvFormat format, Side side, std::size_t dim, std::byte* tile, std::size_t row,
                       const std::byte* from, std::size_t from_row);

/// The row as the format rounds it: `numbers`, or in `room` [max_head_dim] what they are once spread.
PITH_API const float* as_stored(KvFormat format, Side side, const float* numbers, std::size_t dim, float* room);

/// Whether each number of a row that is finite stays so in the format.
PITH_API bool fits(KvFormat format, Side side, const float* numbers, std::size_t dim);

}  // namespace pith::inline tensor
