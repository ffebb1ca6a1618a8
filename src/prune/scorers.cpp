// SPDX-License-Identifier: MIT
#include "pith/prune/scorers.hpp"

#include <numeric>

namespace pith::prune {

void ObservationWindow::score(const Lane& lane, const Moment& moment, std::span<float> out) const {
  const std::size_t rows = lane.rows();
  auto& order = moment.scratch->order;
  order.resize(rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return lane.born(a) < lane.born(b); });
  const auto half = static_cast<std::size_t>(pool / 2);
  for (std::size_t k = 0; k < rows; ++k) {
    const std::size_t begin = k > half ? k - half : 0;
    const std::size_t end = std::min(rows, k + half + 1);
    float best = 0;
    for (std::size_t near = begin; near < end; ++near)
      best = std::max(best, lane.evidence(Evidence::window, order[near]));
    out[order[k]] = best;
  }
}

}  // namespace pith::prune
