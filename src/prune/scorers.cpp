// SPDX-License-Identifier: MIT
#include "pith/prune/scorers.hpp"

#include <algorithm>

namespace pith::prune {

void ObservationWindow::score(const Lane& lane, const Moment& moment, std::span<float> out) const {
  ColumnScore{column::window}.score(lane, moment, out);
  auto& order = moment.scratch->order;  // of the rows before the window
  order.clear();
  for (std::size_t row = 0; row < lane.rows(); ++row)
    if (lane.born(row) < moment.prompt_end - window) order.push_back(row);
  std::ranges::sort(order, {}, [&](std::size_t row) { return lane.born(row); });
  auto& attention = moment.scratch->values;  // theirs, before it is pooled
  attention.clear();
  for (const std::size_t row : order) attention.push_back(out[row]);
  const auto half = static_cast<std::size_t>(pool / 2);
  for (std::size_t k = 0; k < order.size(); ++k) {
    const std::size_t begin = k > half ? k - half : 0;
    const std::size_t end = std::min(order.size(), k + half + 1);
    out[order[k]] = *std::max_element(attention.begin() + static_cast<std::ptrdiff_t>(begin),
                                      attention.begin() + static_cast<std::ptrdiff_t>(end));
  }
}

}  // namespace pith::prune
