// SPDX-License-Identifier: MIT
// What a row is worth: higher is worth more.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>

#include "pith/api.hpp"
#include "pith/prune/budgets.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// score(layer, lane, moment, out): out[row] for every row of layer.lanes()[lane]. A row of infinite worth is beyond
/// judgement.
template <class S>
concept Scorer = std::copyable<S> &&
    requires(const S& scorer, const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) {
  { scorer.needs() } -> std::same_as<Needs>;
  scorer.score(layer, lane, moment, out);
};

/// It may look at the queries of every pass, before attention: watch(layer, moment).
template <class S>
concept Watches = requires(const S& scorer, const KvLayer& layer, const Moment& moment) {
  scorer.watch(layer, moment);
};

/// A row is worth what stands in one of its columns.
struct ColumnScore {
  Column column;

  Needs needs() const { return {.evidence = column}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment&, std::span<float> out) const {
    const Lane& rows = layer.lanes()[lane];
    const Slot slot = rows.slot(column);
    for (std::size_t p = 0; p < rows.pages(); ++p)
      std::ranges::copy(rows.page(p).evidence(slot),
                        out.begin() + static_cast<std::ptrdiff_t>(p * PageLayout::capacity));
  }
};

/// Attention received so far, over all queries and heads (H2O's accumulated score).
inline constexpr ColumnScore attention_mass{column::mass};

/// The learned gate's latest judgement.
inline constexpr ColumnScore gate_logit{column::gate_logit};

/// Later tokens are worth more.
struct Recency {
  Needs needs() const { return {}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment&, std::span<float> out) const {
    for (std::size_t row = 0; row < out.size(); ++row) out[row] = static_cast<float>(layer.lanes()[lane].born(row));
  }
};

/// Attention received from the last `window` tokens of the prompt, then the maximum over `pool` neighbouring rows in
/// the order of their positions, so that a kept token keeps its surroundings (SnapKV, arXiv 2404.14469, section 4); or,
/// where `average`, their mean, a neighbour that is not there counting 0, as the authors' program has it.
/// Neighbours are rows before the window: those in it, which attend to each other, keep what they have.
struct PITH_API ObservationWindow {
  int window = 32;
  int pool = 7;  // odd
  bool average = false;

  Needs needs() const { return {.evidence = column::window, .window = window}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// What stands in a column, per query that could add to it: later tokens do not start with nothing.
struct PITH_API PerQuery {
  Column column;

  Needs needs() const { return {.evidence = column}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// Worth little where the key points as the others do: minus its cosine with the mean of all keys' directions, over the
/// heads of the lane (KeyDiff, Park et al., arXiv 2504.15364, section 3).
struct PITH_API KeyDifference {
  Needs needs() const { return {}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// Short keys are worth more: minus the Euclidean norm, over the heads of the lane (Devoto et al., arXiv 2406.11430).
struct PITH_API KeyNorm {
  Needs needs() const { return {}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// Squared norms of key and value, each as its share of those of `block` neighbours (CurDKV, arXiv 2509.15038).
struct PITH_API NormShare {
  int block = 16;

  Needs needs() const { return {}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// Rows, in the order of their positions and after `sinks`, in parts of `lag`: how far a part's keys and values are
/// from the range of those of the next part, as the rank among the part (LagKV, Liang et al., arXiv 2504.04704, eq.
/// 4-8). What has no next part, and the sinks, are beyond judgement. Where a channel has no range, it counts 0.
struct PITH_API LagDeviation {
  int sinks = 4, lag = 128;

  Needs needs() const { return {}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// scores[row] *= the mean, over the query heads that share the lane's kv-heads, of |W_o[head]^T v_row|_1: how much a
/// row can move the layer's output. Reads Moment::wo.
PITH_API void weigh_by_output(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> scores);

/// A row is worth the most that a query of the observation window gave it, in one head, and at least the mean of that
/// over rows; times its part, among the layer's lanes, of what its values come to in the layer's output. The rows of
/// most attention which, with the window itself, have `sure` of all of it are worth more than any other, if so many may
/// stay (DefensiveKV, Feng et al., arXiv 2510.13334). The most is the maximum over `pool`
/// neighbours, too; the paper averages every query's attention over them first.
struct PITH_API WorstCase {
  /// |W_o^T v|_1, the mean over heads, when a row was first judged.
  static constexpr Column output_norm{"output_norm"};

  int window = 32;
  int pool = 5;  // odd
  Rows rows;
  int sinks = 0;  // which stay anyway, as the window does
  float sure = 0.9f;

  Needs needs() const { return {.evidence = column::window | column::peak | output_norm, .window = window}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// Half of the rows that may stay are those of most attention, whatever else; the others are judged by attention and by
/// what their values come to in the layer's output (CriticalKV, Feng et al., arXiv 2502.03805, algorithm 1). What the
/// scorer gives is a sum over `queries` queries of each head that shares a kv-head.
template <Scorer S, class P>
struct Critical {
  static constexpr float epsilon = 1e-4f, certain = std::numeric_limits<float>::max();

  S scorer;
  Rows rows;
  P spare;  // what stays anyway, and is part of the half
  int queries = 1;

  Needs needs() const { return scorer.needs(); }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const {
    scorer.score(layer, lane, moment, out);
    auto& order = moment.scratch->order;
    order.clear();
    for (std::size_t row = 0; row < out.size(); ++row)
      if (const Row r = layer.lanes()[lane].row(row); !r.pinned() && !spare.spares(r.born(), moment))
        order.push_back(row);
    const std::size_t spared = out.size() - order.size(), half = rows.at(moment) / 2;
    const auto sure = std::min(half > spared ? half - spared : 0, order.size());
    const auto middle = order.begin() + static_cast<std::ptrdiff_t>(sure);
    std::nth_element(order.begin(), middle, order.end(), [&](std::size_t a, std::size_t b) {
      return out[a] != out[b] ? out[a] > out[b] : layer.lanes()[lane].born(a) > layer.lanes()[lane].born(b);
    });
    const float sums = static_cast<float>(queries) * static_cast<float>(moment.group);
    for (float& score : out) score = score / sums + epsilon;
    weigh_by_output(layer, lane, moment, out);
    for (auto row = order.begin(); row != middle; ++row) out[*row] = certain;
  }
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class S, class P>
Critical(S, Rows, P, int) -> Critical<S, P>;

/// A token is worth what its rows in all lanes of the layer are worth together: one verdict for the layer.
template <Scorer S>
struct Joint {
  S scorer;

  Needs needs() const { return scorer.needs(); }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const {
    const auto lanes = layer.lanes();
    if (lanes.size() == 1) return scorer.score(layer, lane, moment, out);
    auto& sums = moment.scratch->sums;  // [position]
    auto& one = moment.scratch->lane_scores;
    sums.assign(static_cast<std::size_t>(moment.next), 0.0f);
    const auto at = [&](std::size_t l, std::size_t row) -> float& {
      return sums[static_cast<std::size_t>(lanes[l].born(row))];
    };
    for (std::size_t l = 0; l < lanes.size(); ++l) {
      one.resize(lanes[l].rows());
      scorer.score(layer, l, moment, one);
      for (std::size_t row = 0; row < one.size(); ++row) at(l, row) += one[row];
    }
    for (std::size_t row = 0; row < out.size(); ++row) out[row] = at(lane, row);
  }
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class S>
Joint(S) -> Joint<S>;

}  // namespace pith::prune
