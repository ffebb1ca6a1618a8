// SPDX-License-Identifier: MIT
// The usual policy: score the rows, see how many may stay, and reclaim the rest. Four orthogonal answers.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "pith/prune/budgets.hpp"
#include "pith/prune/policy.hpp"
#include "pith/prune/scorers.hpp"

namespace pith::prune {

/// reclaim(layer, lane, victims, until): what becomes of rows that may not stay; victims in descending order.
template <class R>
concept Reclaim = std::copyable<R> && requires(const R& reclaim, const KvLayer& layer, std::size_t lane,
                                               std::span<const std::size_t> victims, Position until) {
  reclaim(layer, lane, victims, until);
};

/// They are forgotten.
struct Drop {
  void operator()(const KvLayer& layer, std::size_t lane, std::span<const std::size_t> victims, Position until) const {
    // In descending order the row that fills a hole is never one of the victims to come.
    for (const std::size_t row : victims) layer.evict(lane, row, until);
  }
};

/// Acts after attention. Spared rows are never reclaimed, even where they alone exceed the budget; they count
/// towards it. Of equal scores the later token stays.
template <Scorer S, Budget B, Spare P = NoneSpared, Reclaim R = Drop>
struct Evict {
  S scorer;
  B budget;
  P spare = {};
  R reclaim = {};

  Needs needs() const { return scorer.needs(); }

  void after_attention(const KvLayer& layer, const Moment& moment) const {
    const auto lanes = layer.lanes();
    Scratch& scratch = *moment.scratch;
    if (scratch.scores.size() < lanes.size()) scratch.scores.resize(lanes.size());
    scratch.keep.assign(lanes.size(), 0);
    const std::span scores(scratch.scores.data(), lanes.size());
    for (std::size_t l = 0; l < lanes.size(); ++l) {
      scores[l].resize(lanes[l].rows());
      scorer.score(lanes[l], moment, scores[l]);
    }
    budget.allot(layer, scores, scratch.keep);
    for (std::size_t l = 0; l < lanes.size(); ++l) cut(layer, l, scratch.keep[l], scores[l], moment);
  }

 private:
  void cut(const KvLayer& layer, std::size_t l, std::size_t keep, std::span<const float> scores,
           const Moment& moment) const {
    const Lane& lane = layer.lanes()[l];
    if (lane.rows() <= keep) return;
    auto& judged = moment.scratch->order;
    judged.clear();
    for (std::size_t row = 0; row < lane.rows(); ++row)
      if (const Position born = lane.born(row); !spare.spares(born, moment) && !layer.kept(born)) judged.push_back(row);
    const std::size_t victims = std::min(lane.rows() - keep, judged.size());
    const auto middle = judged.begin() + static_cast<std::ptrdiff_t>(victims);
    std::nth_element(judged.begin(), middle, judged.end(), [&](std::size_t a, std::size_t b) {
      return scores[a] != scores[b] ? scores[a] < scores[b] : lane.born(a) < lane.born(b);
    });
    std::sort(judged.begin(), middle, std::greater<>());
    reclaim(layer, l, std::span<const std::size_t>(judged.data(), victims), moment.next);
  }
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class S, class B, class P = NoneSpared, class R = Drop>
Evict(S, B, P = {}, R = {}) -> Evict<S, B, P, R>;

}  // namespace pith::prune
