// SPDX-License-Identifier: MIT
// The usual policy: score the rows, see how many may stay, and reclaim the rest. Four orthogonal answers.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <string_view>

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

/// Before they are forgotten, those victims whose key is as like that of the nearest row that stays as a threshold asks
/// are folded into it (D2O, Wan et al., arXiv 2406.13035). With u the cosine of the keys, the row's value
/// becomes the mean of its own, weighted e, and its victims', weighted e^u; the attention that they received is counted
/// as the row's. The threshold is the mean of u at the first cut; later `memory` of what it was, and of that mean the
/// rest. Keys stay as they are.
struct PITH_API MergeAlike {
  static constexpr std::string_view state = "merge_threshold";  // [heads of a lane]

  float memory = 0.5f;

  void operator()(const Cut& cut) const;
};

/// Folded as another reclaim says, then forgotten.
template <Reclaim R>
struct Fold {
  R fold;
  void operator()(const Cut& cut) const {
    fold(cut);
    Discard{}(cut);
  }
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class R>
Fold(R) -> Fold<R>;

/// Either.
struct Forget {
  bool merge = false;
  void operator()(const Cut& cut) const {
    if (merge) MergeValues{}(cut);
    Discard{}(cut);
  }
};

/// Acts after attention, or, with a budget of layers together, after the pass. Spared and pinned rows are never
/// reclaimed, even where they alone exceed the budget; they count towards it. Of equal scores the later token stays.
template <Scorer S, class B, Spare P = NoneSpared, Reclaim R = Discard>
requires Budget<B> || BudgetOfLayers<B>
struct Evict {
  S scorer;
  B budget;
  P spare = {};
  R reclaim = {};
  std::size_t slack = 0;  // rows above the budget that are put up with: rows are scored once in so many tokens

  Needs needs() const {
    Needs all = scorer.needs();
    if constexpr (requires { budget.needs(); }) all = all | budget.needs();
    all.after_pass = BudgetOfLayers<B>;
    return all;
  }

  void before_attention(const KvLayer& layer, const Moment& moment) const requires Watches<S> {
    scorer.watch(layer, moment);
  }

  void after_attention(const KvLayer& layer, const Moment& moment) const requires Budget<B> {
    if constexpr (SaysWhenDue<B>)
      if (!budget.due(layer, moment, slack)) return;
    const std::size_t lanes = layer.lanes().size();
    const auto scores = room(*moment.scratch, lanes);
    for (std::size_t l = 0; l < lanes; ++l) score(layer, l, moment, scores[l]);
    budget.allot(layer, moment, scores, moment.scratch->keep);
    for (std::size_t l = 0; l < lanes; ++l) cut(layer, l, moment.scratch->keep[l], scores[l], moment);
  }

  void after_pass(std::span<const LayerMoment> layers) const requires BudgetOfLayers<B> {
    if constexpr (SaysWhenDue<B>)
      if (!budget.due(layers, slack)) return;
    Scratch& scratch = *layers.front().moment.scratch;
    std::size_t lanes = 0;
    for (const LayerMoment& one : layers) lanes += one.layer.lanes().size();
    const auto scores = room(scratch, lanes);
    const auto for_each_lane = [&](auto&& act) {
      std::size_t i = 0;
      for (const auto& [layer, moment] : layers)
        for (std::size_t l = 0; l < layer.lanes().size(); ++l, ++i) act(layer, l, moment, i);
    };
    for_each_lane([&](const KvLayer& layer, std::size_t l, const Moment& moment, std::size_t i) {
      score(layer, l, moment, scores[i]);
    });
    budget.allot(layers, scores, scratch.keep);
    for_each_lane([&](const KvLayer& layer, std::size_t l, const Moment& moment, std::size_t i) {
      cut(layer, l, scratch.keep[i], scores[i], moment);
    });
  }

 private:
  static constexpr float beyond = std::numeric_limits<float>::infinity();

  /// For the scores of so many lanes, and for how many rows each may keep.
  static std::span<std::vector<float>> room(Scratch& scratch, std::size_t lanes) {
    if (scratch.scores.size() < lanes) scratch.scores.resize(lanes);
    scratch.keep.assign(lanes, 0);
    return {scratch.scores.data(), lanes};
  }

  /// Of the rows of a lane: what is not to be judged is worth infinitely much.
  void score(const KvLayer& layer, std::size_t l, const Moment& moment, std::vector<float>& scores) const {
    const Lane& lane = layer.lanes()[l];
    scores.resize(lane.rows());
    scorer.score(layer, l, moment, scores);
    for (std::size_t row = 0; row < lane.rows(); ++row)
      if (const Row r = lane.row(row); r.pinned() || spare.spares(r.born(), moment)) scores[row] = beyond;
  }

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
