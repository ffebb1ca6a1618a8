// SPDX-License-Identifier: MIT
#include "pith/prune/budgets.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <numbers>

#include "prune/remembered.hpp"

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

namespace {

/// `all` rows to lanes by their scores: each gets its best `least`, what is spared, and what it wins of the rest.
void share(std::size_t all, std::size_t least, const Moment& moment, std::span<const std::vector<float>> scores,
           std::span<std::size_t> keep) {
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
  const std::size_t more = std::min(all > certain ? all - certain : 0, contest.size());
  const auto middle = contest.begin() + static_cast<std::ptrdiff_t>(more);
  std::nth_element(contest.begin(), middle, contest.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  for (auto won = contest.begin(); won != middle; ++won) ++keep[won->second];
}

}  // namespace

void SharedRows::allot(const KvLayer&, const Moment& moment, std::span<const std::vector<float>> scores,
                       std::span<std::size_t> keep) const {
  const std::size_t alone = rows.at(moment);
  share(keep.size() * alone, static_cast<std::size_t>(std::ceil(floor * static_cast<float>(alone))), moment, scores,
        keep);
}

std::size_t LeavingAnswer::at(std::size_t layer, std::size_t n_layers) const {
  const double way = std::numbers::pi * static_cast<double>(layer) / static_cast<double>(n_layers);
  const auto least = static_cast<double>(last);
  const double part = static_cast<double>(share) * ((1 - least) * (std::cos(way) + 1) / 2 + least);
  // What a float lacks of the share that was written is not to cost a row.
  return std::max<std::size_t>(1, static_cast<std::size_t>(part * every + 1e-5));
}

bool LeavingAnswer::due(const KvLayer&, const Moment& moment, std::size_t) const {
  const int left = moment.next - moment.prompt_end - recent;
  return !moment.reads_prompt() && every > 0 && left > 0 && left % every == 0;
}

void LeavingAnswer::allot(const KvLayer& layer, const Moment& moment, std::span<const std::vector<float>> scores,
                          std::span<std::size_t> keep) const {
  for (std::size_t l = 0; l < keep.size(); ++l) {
    const auto judged = static_cast<std::size_t>(
        std::ranges::count_if(scores[l], [](float score) { return score < std::numeric_limits<float>::infinity(); }));
    keep[l] = scores[l].size() - judged + at(layer.layer(), moment.n_layers);
  }
}

bool RowsOfLayers::due(std::span<const LayerMoment> layers, std::size_t slack) const {
  std::size_t held = 0, allowed = 0;
  for (const auto& [layer, moment] : layers)
    for (const Lane& lane : layer.lanes()) {
      held += lane.rows();
      allowed += rows.at(moment) + slack;
    }
  return held > allowed;
}

void RowsOfLayers::allot(std::span<const LayerMoment> layers, std::span<const std::vector<float>> scores,
                         std::span<std::size_t> keep) const {
  const Moment& moment = layers.front().moment;
  share(keep.size() * rows.at(moment), 0, moment, scores, keep);
}

namespace {

/// Of the attention that a lane's rows have received.
double variance_of_mass(const Lane& lane) {
  const Slot mass = lane.slot(column::mass);
  double sum = 0, squares = 0;
  for (std::size_t row = 0; row < lane.rows(); ++row) {
    const auto received = static_cast<double>(lane.evidence(mass, row));
    sum += received;
    squares += received * received;
  }
  const auto n = static_cast<double>(lane.rows());
  return n > 0 ? squares / n - sum / n * (sum / n) : 0;
}

/// The mean of its lanes' variances, scaled between the least and the most of them.
double density(const KvLayer& layer) {
  double least = std::numeric_limits<double>::infinity(), most = 0, sum = 0;
  for (const Lane& lane : layer.lanes()) {
    const double variance = variance_of_mass(lane);
    least = std::min(least, variance);
    most = std::max(most, variance);
    sum += variance;
  }
  return most > least ? (sum / static_cast<double>(layer.lanes().size()) - least) / (most - least) : 0;
}

}  // namespace

bool RowsByDensity::due(std::span<const LayerMoment> layers, std::size_t slack) const {
  if (layers.front().moment.ends_prompt()) return true;
  for (const LayerMoment& one : layers)
    for (const Lane& lane : one.layer.lanes()) {
      const auto& found = lane.state(state);
      if (!found.empty() && lane.rows() > static_cast<std::size_t>(whole(found[0])) + slack) return true;
    }
  return false;
}

void RowsByDensity::allot(std::span<const LayerMoment> layers, std::span<const std::vector<float>>,
                          std::span<std::size_t> keep) const {
  const Moment& moment = layers.front().moment;
  const auto judged = [&](const KvLayer& layer) {
    return layer.layer() >= static_cast<std::size_t>(first) &&
           layer.layer() + static_cast<std::size_t>(last) < moment.n_layers;
  };
  if (moment.ends_prompt()) {
    double sum = 0, all = 0;
    for (const LayerMoment& one : layers)
      if (judged(one.layer)) {
        sum += std::exp(-density(one.layer));
        ++all;
      }
    const double least = 0.01 * static_cast<double>(moment.next);
    double given = 0;  // to a lane of each layer so far, before it is rounded
    for (const LayerMoment& one : layers) {
      if (!judged(one.layer)) continue;
      const double before = std::round(given);
      given += std::exp(-density(one.layer)) / sum * all * static_cast<double>(rows.at(moment));
      const double own = std::max(std::round(given) - before, std::ceil(least));
      for (const Lane& lane : one.layer.lanes()) lane.state(state).assign(1, static_cast<float>(own));
    }
  }
  std::size_t l = 0;
  for (const LayerMoment& one : layers)
    for (const Lane& lane : one.layer.lanes()) {
      const auto& found = lane.state(state);
      keep[l++] = found.empty() ? lane.rows() : std::min(lane.rows(), static_cast<std::size_t>(whole(found[0])));
    }
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
