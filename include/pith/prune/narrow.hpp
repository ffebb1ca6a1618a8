// SPDX-License-Identifier: MIT
// Tokens of a prompt that do not go on through all layers: what costs time, beside what costs memory.
#pragma once

#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "pith/api.hpp"
#include "pith/prune/budgets.hpp"
#include "pith/prune/policy.hpp"
#include "pith/prune/scorers.hpp"

namespace pith::prune {

/// Of `stay`, ascending, only as many go on as `most` says, where infinite worth counts and always stays: those of
/// highest worth[token], of equal ones the later.
PITH_API void keep_best(std::span<const float> worth, std::size_t most, std::vector<Position>& stay);

/// Where tokens leave, and how many go on: after(layer, n_layers), at(layer, moment, there) of those that are there.
template <class P>
concept Narrowing = std::copyable<P> && requires(const P& plan, std::size_t n, const Moment& moment) {
  { plan.after(n, n) } -> std::same_as<bool>;
  { plan.at(n, moment, n) } -> std::same_as<std::size_t>;
};

/// After one layer: a number, or a share of the prompt.
struct PITH_API AfterOne {
  Rows tokens;
  int layer = -1;  // below 0: the middle one, n_layers / 2 - 1

  std::size_t layers() const { return layer < 0 ? 0 : static_cast<std::size_t>(layer) + 1; }
  bool after(std::size_t at, std::size_t n_layers) const {
    return layer < 0 ? at + 1 == n_layers / 2 : at == static_cast<std::size_t>(layer);
  }
  std::size_t at(std::size_t, const Moment& moment, std::size_t) const {
    Moment prompt = moment;
    prompt.next -= moment.prompt_begin;
    return tokens.at(prompt);
  }
};

/// After every layer: of those before the last `window` a share that falls from 1 at the first layer towards `share`,
/// as half a wave of the cosine; where at most `least` of them would be left, all.
struct PITH_API AfterEach {
  float share = 0.9f;
  int window = 1;
  int least = 64;

  std::size_t layers() const { return 0; }
  bool after(std::size_t, std::size_t) const { return true; }
  std::size_t at(std::size_t layer, const Moment& moment, std::size_t there) const;
};

/// As many of a prompt's tokens go on as the plan says: those that the lanes' scores together are highest for, and
/// those that are spared or pinned. After the last layer nothing happens.
template <Scorer S, Narrowing N, Spare P = NoneSpared>
struct Narrow {
  S scorer;
  N plan;
  P spare = {};

  Needs needs() const { return scorer.needs() | Needs{.layers = plan.layers()}; }
  bool narrows_after(std::size_t layer, std::size_t n_layers) const { return plan.after(layer, n_layers); }

  void narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const {
    constexpr float beyond = std::numeric_limits<float>::infinity();
    const std::size_t most = plan.at(layer.layer(), moment, stay.size());
    if (stay.size() <= most) return;
    auto& worth = moment.scratch->sums;  // [position]
    auto& one = moment.scratch->lane_scores;
    worth.assign(static_cast<std::size_t>(moment.next), 0.0f);
    const auto of = [&](Position token) -> float& { return worth[static_cast<std::size_t>(token)]; };
    const auto lanes = layer.lanes();
    for (std::size_t l = 0; l < lanes.size(); ++l) {
      one.resize(lanes[l].rows());
      scorer.score(layer, l, moment, one);
      for (std::size_t row = 0; row < one.size(); ++row)
        of(lanes[l].born(row)) += lanes[l].pinned(row) ? beyond : one[row];
    }
    for (const Position token : stay)
      if (spare.spares(token, moment)) of(token) = beyond;
    keep_best(worth, most, stay);
  }
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class S, class N, class P = NoneSpared>
Narrow(S, N, P = {}) -> Narrow<S, N, P>;

}  // namespace pith::prune
