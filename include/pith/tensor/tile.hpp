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

enum class Side : std::uint8_t { keys, values };

/// 32 columns of a tile of q8_0. Attention sums over a key's columns, and over the rows of values: with i what is
/// summed over and j the other, quants[i / 4][j][i % 4] is 128 more than the quant of (i, j), so that instructions that
/// multiply four unsigned bytes with four others find them side by side. In all other formats a tile is its rows, one
/// by one.
struct q8_0_square {
  f16 scales[tile_rows];
  std::uint8_t quants[8][32][4];

  int quant(std::size_t i, std::size_t j) const { return quants[i / 4][j][i % 4] - 128; }
};
static_assert(sizeof(q8_0_square) == tile_rows * sizeof(q8_0));

/// Bytes of a tile of rows of `dim` numbers; dim is a multiple of block_values(format).
constexpr std::size_t tile_bytes(KvFormat format, std::size_t dim) { return tile_rows * row_bytes(format, dim); }

/// Writes the row from `dim` numbers; no other row of the tile changes.
PITH_API void store_row(KvFormat format, Side side, const float* numbers, std::size_t dim, std::byte* tile,
                        std::size_t row);

/// Reads the row's `dim` numbers.
PITH_API void load_row(KvFormat format, Side side, std::size_t dim, const std::byte* tile, std::size_t row,
                       float* numbers);

/// Writes the row as row `from_row` of tile `from`.
PITH_API void copy_row(KvFormat format, Side side, std::size_t dim, std::byte* tile, std::size_t row,
                       const std::byte* from, std::size_t from_row);

/// Whether each of `n` numbers that is finite stays so in the format.
PITH_API bool fits(KvFormat format, const float* numbers, std::size_t n);

}  // namespace pith::inline tensor
