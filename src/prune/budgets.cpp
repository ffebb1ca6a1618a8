// SPDX-License-Identifier: MIT
#include "pith/prune/budgets.hpp"

#include <functional>
#include <limits>

namespace pith::prune {

bool Rows::due(const KvLayer& layer, const Moment& moment, std::size_t slack) const {
  const std::size_t most = at(moment) + slack;
  for (const Lane& lane : layer.lanes())
    if (lane.rows() > most) return true;
  return false;
}

bool SharedRows::due(const KvLayer& layer, const Moment& moment, std::size_t slack) const {
  std::size_t held = 0;
  for (const Lane& lane : layer.lanes()) held += lane.rows();
  return held > layer.lanes().size() * (rows.at(moment) + slack);
}

void SharedRows::allot(const KvLayer& layer, const Moment& moment, std::span<const std::vector<float>> scores,
                       std::span<std::size_t> keep) const {
  const std::size_t alone = rows.at(moment);
  const auto least = static_cast<std::size_t>(std::ceil(floor * static_cast<float>(alone)));
  auto& contest = moment.scratch->contest;  // what no lane has for certain
  auto& sorted = moment.scratch->lane_scores;
  contest.clear();
  std::size_t certain = 0;
  for (std::size_t l = 0; l < keep.size(); ++l) {
    sorted.assign(scores[l].begin(), scores[l].end());
    std::ranges::sort(sorted, std::greater<>());
    const auto spared = static_cast<std::size_t>(std::ranges::count(sorted, std::numeric_limits<float>::infinity()));
    keep[l] = std::min(std::max(least, spared), sorted.size());
    certain += keep[l];
    for (std::size_t i = keep[l]; i < sorted.size(); ++i) contest.emplace_back(sorted[i], l);
  }
  const std::size_t all = layer.lanes().size() * alone;
  const std::size_t more = std::min(all > certain ? all - certain : 0, contest.size());
  const auto middle = contest.begin() + static_cast<std::ptrdiff_t>(more);
  std::nth_element(contest.begin(), middle, contest.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  for (auto won = contest.begin(); won != middle; ++won) ++keep[won->second];
}

std::size_t PyramidRows::at(std::size_t layer, const Moment& moment) const {
  const std::size_t average = rows.at(moment), seen = static_cast<std::size_t>(moment.next);
  if (seen <= average) return seen;
  const double judged = static_cast<double>(average) - window;
  if (moment.n_layers <= 1 || judged <= 0) return average;
  double last = judged / static_cast<double>(steepness), first = 2 * judged - last;
  if (const double most = static_cast<double>(seen) - window; first > most) {
    first = most;
    last = 2 * judged - first;
  }
  const double step = (first - last) / static_cast<double>(moment.n_layers - 1);
  const auto sum = [&](std::size_t layers) {  // of the first so many
    const auto n = static_cast<double>(layers);
    return std::lround(n * first - step * n * (n - 1) / 2);
  };
  return static_cast<std::size_t>(window + sum(layer + 1) - sum(layer));
}

void LazyLayers::allot(const KvLayer& layer, const Moment& moment, std::span<const std::vector<float>>,
                       std::span<std::size_t> keep) const {
  double all = 0, near = 0;
  for (const Lane& lane : layer.lanes()) {
    const Slot slot = lane.slot(column::last);
    for (std::size_t row = 0; row < lane.rows(); ++row) {
      const double attention = static_cast<double>(lane.evidence(slot, row));
      all += attention;
      if (lane.born(row) < sinks || lane.born(row) >= moment.next - recent) near += attention;
    }
  }
  const bool lazy = near > static_cast<double>(threshold) * all;
  for (std::size_t l = 0; l < keep.size(); ++l)
    keep[l] = lazy ? static_cast<std::size_t>(sinks + recent) : layer.lanes()[l].rows();
}

}  // namespace pith::prune
