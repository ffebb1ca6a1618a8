// SPDX-License-Identifier: MIT
// The usual policy: score the rows, see how many may stay, and reclaim the rest. Four orthogonal answers.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>

#include "pith/api.hpp"
#include "pith/prune/budgets.hpp"
#include "pith/prune/policy.hpp"
#include "pith/prune/scorers.hpp"

namespace pith::prune {

/// Rows of one lane that may not stay.
struct Cut {
  const KvLayer& layer;
  std::size_t lane;
  std::span<const std::size_t> victims;  // in descending order, none of them pinned or spared
  std::span<const float> scores;         // [row], of all rows of the lane
  const Moment& moment;

  const Lane& rows() const { return layer.lanes()[lane]; }
};

/// reclaim(cut): what becomes of the victims. Those that it leaves, stay.
template <class R>
concept Reclaim = std::copyable<R> && requires(const R& reclaim, const Cut& cut) {
  reclaim(cut);
};

/// They are forgotten.
struct Discard {
  void operator()(const Cut& cut) const {
    // In descending order the row that fills a hole is never one of the victims to come.
    for (const std::size_t row : cut.victims) cut.layer.evict(cut.lane, row, cut.moment.next);
  }
};

/// Before they are forgotten, each victim's value is folded into the row that stays whose key is most like its own, by
/// w = max(0, cosine of the keys) |v| / (|v| + |v of that row|): that row's value becomes the mean of its own and its
/// victims', weighted 1 and w. Keys stay as they are.
struct PITH_API MergeValues {
  void operator()(const Cut& cut) const;
};

/// Either.
struct Forget {
  bool merge = false;
  void operator()(const Cut& cut) const {
    if (merge) MergeValues{}(cut);
    Discard{}(cut);
  }
};

/// Acts after attention. Spared and pinned rows are never reclaimed, even where they alone exceed the budget; they
/// count towards it. Of equal scores the later token stays.
template <Scorer S, Budget B, Spare P = NoneSpared, Reclaim R = Discard>
struct Evict {
  S scorer;
  B budget;
  P spare = {};
  R reclaim = {};
  std::size_t slack = 0;  // rows above the budget that are put up with: rows are scored once in so many tokens

  Needs needs() const {
    if constexpr (requires { budget.needs(); }) return scorer.needs() | budget.needs();
    return scorer.needs();
  }

  void after_attention(const KvLayer& layer, const Moment& moment) const {
    if constexpr (SaysWhenDue<B>)
      if (!budget.due(layer, moment, slack)) return;
    const auto lanes = layer.lanes();
    Scratch& scratch = *moment.scratch;
    if (scratch.scores.size() < lanes.size()) scratch.scores.resize(lanes.size());
    scratch.keep.assign(lanes.size(), 0);
    const std::span scores(scratch.scores.data(), lanes.size());
    for (std::size_t l = 0; l < lanes.size(); ++l) {
      scores[l].resize(lanes[l].rows());
      scorer.score(layer, l, moment, scores[l]);
      for (std::size_t row = 0; row < lanes[l].rows(); ++row)
        if (const Row r = lanes[l].row(row); r.pinned() || spare.spares(r.born(), moment)) scores[l][row] = beyond;
    }
    budget.allot(layer, moment, scores, scratch.keep);
    for (std::size_t l = 0; l < lanes.size(); ++l) cut(layer, l, scratch.keep[l], scores[l], moment);
  }

 private:
  static constexpr float beyond = std::numeric_limits<float>::infinity();

  void cut(const KvLayer& layer, std::size_t l, std::size_t keep, std::span<const float> scores,
           const Moment& moment) const {
    const Lane& lane = layer.lanes()[l];
    if (lane.rows() <= keep) return;
    auto& judged = moment.scratch->order;
    judged.clear();
    for (std::size_t row = 0; row < lane.rows(); ++row)
      if (scores[row] != beyond) judged.push_back(row);
    const std::size_t victims = std::min(lane.rows() - keep, judged.size());
    const auto middle = judged.begin() + static_cast<std::ptrdiff_t>(victims);
    std::nth_element(judged.begin(), middle, judged.end(), [&](std::size_t a, std::size_t b) {
      return scores[a] != scores[b] ? scores[a] < scores[b] : lane.born(a) < lane.born(b);
    });
    std::sort(judged.begin(), middle, std::greater<>());
    reclaim(Cut{layer, l, std::span<const std::size_t>(judged.data(), victims), scores, moment});
  }
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class S, class B, class P = NoneSpared, class R = Discard>
Evict(S, B, P = {}, R = {}, std::size_t = 0) -> Evict<S, B, P, R>;

}  // namespace pith::prune
