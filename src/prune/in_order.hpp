// SPDX-License-Identifier: MIT
// A lane is a bag of rows; some scorers look at neighbours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "pith/cache/lane.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// The rows of the tokens [begin, end), in the order of their positions.
inline std::span<const std::size_t> in_order(const Lane& lane, const Moment& moment, Position begin, Position end) {
  auto& order = moment.scratch->order;
  order.clear();
  for (std::size_t row = 0; row < lane.rows(); ++row)
    if (lane.born(row) >= begin && lane.born(row) < end) order.push_back(row);
  std::ranges::sort(order, {}, [&](std::size_t row) { return lane.born(row); });
  return order;
}

}  // namespace pith::prune
