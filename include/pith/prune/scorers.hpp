// SPDX-License-Identifier: MIT
// What a row is worth: higher is worth more.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "pith/api.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// score(lane, moment, out): out[row] for every row of the lane.
template <class S>
concept Scorer = std::copyable<S> &&
    requires(const S& scorer, const Lane& lane, const Moment& moment, std::span<float> out) {
  { scorer.needs() } -> std::same_as<Needs>;
  scorer.score(lane, moment, out);
};

/// A row is worth what stands in one of its columns.
struct ColumnScore {
  Column column;

  Needs needs() const { return {.evidence = column}; }
  void score(const Lane& lane, const Moment&, std::span<float> out) const {
    const Slot slot = lane.slot(column);
    for (std::size_t p = 0; p < lane.pages(); ++p)
      std::ranges::copy(lane.page(p).evidence(slot),
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
  void score(const Lane& lane, const Moment&, std::span<float> out) const {
    for (std::size_t row = 0; row < lane.rows(); ++row) out[row] = static_cast<float>(lane.born(row));
  }
};

/// Attention received from the last `window` tokens of the prompt, then the maximum over `pool` neighbouring rows in
/// the order of their positions, so that a kept token keeps its surroundings (SnapKV, arXiv 2404.14469, section 4).
/// Neighbours are rows before the window: those in it, which attend to each other, keep what they have.
struct PITH_API ObservationWindow {
  int window = 32;
  int pool = 7;  // odd

  Needs needs() const { return {.evidence = column::window, .window = window}; }
  void score(const Lane& lane, const Moment& moment, std::span<float> out) const;
};

}  // namespace pith::prune
