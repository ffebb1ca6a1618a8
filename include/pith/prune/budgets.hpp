// SPDX-License-Identifier: MIT
// How many rows may stay, and which are not judged.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include "pith/prune/policy.hpp"

namespace pith::prune {

/// allot(layer, moment, scores, keep): keep[lane] rows may stay in each lane of a layer, given scores[lane][row].
template <class B>
concept Budget = std::copyable<B> && requires(const B& budget, const KvLayer& layer, const Moment& moment,
                                              std::span<const std::vector<float>> scores, std::span<std::size_t> keep) {
  budget.allot(layer, moment, scores, keep);
};

/// At most `rows` rows in every lane.
struct Rows {
  std::size_t rows = 0;
  void allot(const KvLayer&, const Moment&, std::span<const std::vector<float>>, std::span<std::size_t> keep) const {
    std::ranges::fill(keep, rows);
  }
};

/// spares(born, moment): is the token at position `born` beyond judgement?
template <class S>
concept Spare = std::copyable<S> && requires(const S& spare, Position born, const Moment& moment) {
  { spare.spares(born, moment) } -> std::same_as<bool>;
};

struct NoneSpared {
  bool spares(Position, const Moment&) const { return false; }
};

/// The first tokens of the sequence, on which attention rests when it has nowhere to go (arXiv 2309.17453).
struct Sinks {
  int count = 4;
  bool spares(Position born, const Moment&) const { return born < count; }
};

/// The latest tokens.
struct Recent {
  int count = 0;
  bool spares(Position born, const Moment& moment) const { return born >= moment.next - count; }
};

template <Spare A, Spare B>
struct Both {
  A a;
  B b;
  bool spares(Position born, const Moment& moment) const { return a.spares(born, moment) || b.spares(born, moment); }
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class A, class B>
Both(A, B) -> Both<A, B>;

}  // namespace pith::prune
