// SPDX-License-Identifier: MIT
#include "kept.hpp"

#include <algorithm>
#include <numeric>

#include "pith/trace.hpp"

namespace pith::tool {

void Kept::add(const DropAt& drop_at) {
  visible_.resize(drop_at.size());
  const auto n = static_cast<double>(drop_at.empty() ? 0 : drop_at[0][0].size());
  const double pairs = n * (n + 1) / 2;
  pairs_ += pairs;
  for (std::size_t layer = 0; layer < drop_at.size(); ++layer)
    for (const auto& lane : drop_at[layer])
      visible_[layer] += pairs * kept_fraction(lane) / static_cast<double>(drop_at[layer].size());
}

void Kept::add(const DropAt& drop_at, std::uint64_t dropped_rows) {
  add(drop_at);
  std::uint64_t missed = 0;  // by some token
  for (const auto& layer : drop_at)
    for (const auto& lane : layer)
      missed += static_cast<std::uint64_t>(std::ranges::count_if(lane, [](std::int32_t at) { return at >= 0; }));
  drops_at_end_ = drops_at_end_ || dropped_rows > missed;
}

std::vector<double> Kept::per_layer() const {
  std::vector<double> kept;
  for (const double visible : visible_) kept.push_back(pairs_ > 0 ? visible / pairs_ : 1.0);
  return kept;
}

double Kept::mean() const {
  const std::vector<double> kept = per_layer();
  return kept.empty() ? 1.0 : std::accumulate(kept.begin(), kept.end(), 0.0) / static_cast<double>(kept.size());
}

std::vector<double> held_by(const DropAt& drop_at) {
  std::vector<double> held(drop_at.empty() ? 0 : drop_at[0][0].size());
  std::size_t lanes = 0;
  for (const auto& layer : drop_at)
    for (const auto& lane : layer) {
      ++lanes;
      for (std::size_t j = 0; j < held.size(); ++j) held[j] += lane[j] < 0 ? 1 : 0;
    }
  for (double& fraction : held) fraction /= static_cast<double>(lanes);
  return held;
}

}  // namespace pith::tool
