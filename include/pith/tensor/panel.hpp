// SPDX-License-Identifier: MIT
// Panels: what attention of many queries multiplies, the keys, values or queries of up to 32 rows of one head as whole
// numbers of 16 bits. Each row has a step of its own, so that a number is off by no more than 2^-15 of its row's
// length: over a row less than what f16 loses. Products are exact in 32 bits: nothing depends on the order of sums.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/tile.hpp"

namespace pith::inline tensor {

/// Two neighbours among the numbers that are summed over: the first in the lower 16 bits.
using Pair = std::int32_t;

constexpr Pair pair_of(int first, int second) {
  return static_cast<Pair>((static_cast<std::uint32_t>(first) & 0xffffu) | static_cast<std::uint32_t>(second) << 16);
}
constexpr int first_of(Pair pair) { return static_cast<std::int16_t>(static_cast<std::uint32_t>(pair) & 0xffffu); }
constexpr int second_of(Pair pair) { return pair >> 16; }

/// Numbers of a row of `dim` with those that fill it up, all 0.
constexpr std::size_t panel_dim(std::size_t dim) { return (dim + 15) / 16 * 16; }

/// Keys, or queries: number i of row j is steps[j] times that of pairs[i / 2][j]. The squares of a row's whole numbers
/// sum up to at most 2^31, so that its product with another fits 32 bits (Cauchy and Schwarz). Rows there are none of
/// are 0.
struct KeyPanel {
  alignas(64) float steps[tile_rows];
  alignas(64) Pair pairs[max_head_dim / 2][tile_rows];
};

/// Values: number i of row j is step * 2^levels[j] times that of pairs[j / 2 * panel_dim(dim) + i].
struct ValuePanel {
  static constexpr int least_level = -10;

  float step;
  alignas(64) float levels[tile_rows];    // whole, of [least_level, 0]
  alignas(64) float inverses[tile_rows];  // 2^-levels
  alignas(64) Pair pairs[tile_rows / 2 * max_head_dim];
};

/// What 32 queries give the rows of a page: the weight of row j times its level is gains[q] times that of
/// pairs[j / 2][q], and what was summed before is to be multiplied by shrink[q]. The whole numbers of a query sum up to
/// less than 2^16.
struct WeightPanel {
  alignas(64) float gains[tile_rows];
  alignas(64) float shrink[tile_rows];
  alignas(64) Pair pairs[tile_rows / 2][tile_rows];
};

namespace ops {

/// The first n_rows rows of a tile as a panel; `next` as in dots(). Keys that are spread stay so.
PITH_API void key_panel(KvFormat format, const std::byte* tile, std::size_t n_rows, std::size_t dim, KeyPanel& panel,
                        const std::byte* next = nullptr);
PITH_API void value_panel(KvFormat format, const std::byte* tile, std::size_t n_rows, std::size_t dim,
                          ValuePanel& panel, const std::byte* next = nullptr);

/// scores[j * tile_rows + q] = keys[j] . queries[q] for all 32 of both.
PITH_API void multiply(const KeyPanel& keys, const KeyPanel& queries, std::size_t dim, float* scores);

/// A turn of the online softmax for the 32 columns of such scores. Both maximum and weight are of scores times log2 e
/// with the level of each row added to them; as levels are few, that bounds e^score as well. weight[q] is the sum of
/// 2^(score log2 e - maximum[q]). Leaves the scores undefined.
PITH_API void absorb(float* scores, const ValuePanel& values, float* maximum, float* weight, WeightPanel& weights);

/// sums[i * tile_rows + q] = shrink[q] sums[i * tile_rows + q] + sum_j weights[j][q] values[j][i]
PITH_API void weigh(const WeightPanel& weights, const ValuePanel& values, std::size_t dim, float* sums);

}  // namespace ops
}  // namespace pith::inline tensor
