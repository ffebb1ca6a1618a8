// SPDX-License-Identifier: MIT
#include "pith/prune/narrow.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace pith::prune {

void keep_best(std::span<const float> worth, std::size_t most, std::vector<Position>& stay) {
  const auto of = [&](Position token) { return worth[static_cast<std::size_t>(token)]; };
  const auto certain = static_cast<std::size_t>(
      std::ranges::count_if(stay, [&](Position token) { return of(token) == std::numeric_limits<float>::infinity(); }));
  const std::size_t keep = std::max(most, certain);
  if (stay.size() <= keep) return;
  std::nth_element(stay.begin(), stay.begin() + static_cast<std::ptrdiff_t>(keep), stay.end(),
                   [&](Position a, Position b) { return of(a) != of(b) ? of(a) > of(b) : a > b; });
  stay.resize(keep);
  std::ranges::sort(stay);
}

std::size_t AfterEach::at(std::size_t layer, const Moment& moment, std::size_t there) const {
  const auto recent = static_cast<std::size_t>(window);
  if (there <= recent) return there;
  const double p = static_cast<double>(share);
  const double way = std::numbers::pi * static_cast<double>(layer) / static_cast<double>(moment.n_layers);
  const double part = (1 - p) * (std::cos(way) + 1) / 2 + p;
  const auto context = static_cast<std::size_t>(part * static_cast<double>(there - recent));
  return context > static_cast<std::size_t>(least) ? context + recent : there;
}

}  // namespace pith::prune
