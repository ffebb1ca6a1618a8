// SPDX-License-Identifier: MIT
// How many rows may stay, and which are not judged.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "pith/api.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// allot(layer, moment, scores, keep): keep[lane] rows may stay in each lane of a layer, given scores[lane][row];
/// those of spared rows, which count, are infinite.
template <class B>
concept Budget = std::copyable<B> && requires(const B& budget, const KvLayer& layer, const Moment& moment,
                                              std::span<const std::vector<float>> scores, std::span<std::size_t> keep) {
  budget.allot(layer, moment, scores, keep);
};

/// A budget of all layers together: allot(layers, scores, keep), where scores and keep run over the lanes of the first
/// layer, then those of the next.
template <class B>
concept BudgetOfLayers = std::copyable<B> &&
    requires(const B& budget, std::span<const LayerMoment> layers, std::span<const std::vector<float>> scores,
             std::span<std::size_t> keep) {
  budget.allot(layers, scores, keep);
};

/// A budget may also say whether anything is to be cut, before rows are scored: due(layer, moment, slack), where so
/// many rows more than it allows are put up with; of layers together, due(layers, slack).
template <class B>
concept SaysWhenDue = requires(const B& budget, const KvLayer& layer, const Moment& moment, std::size_t slack) {
  { budget.due(layer, moment, slack) } -> std::same_as<bool>;
}
|| requires(const B& budget, std::span<const LayerMoment> layers, std::size_t slack) {
  { budget.due(layers, slack) } -> std::same_as<bool>;
};

/// As many rows in every lane: a number, or a share of the tokens fed so far.
struct PITH_API Rows {
  std::size_t rows = 0;
  float share = 0;  // above 0: in place of `rows`

  std::size_t at(const Moment& moment) const {
    return share > 0 ? static_cast<std::size_t>(std::lround(share * static_cast<float>(moment.next))) : rows;
  }
  bool due(const KvLayer& layer, const Moment& moment, std::size_t slack) const;
  void allot(const KvLayer&, const Moment& moment, std::span<const std::vector<float>>,
             std::span<std::size_t> keep) const {
    std::ranges::fill(keep, at(moment));
  }
};

/// As many rows in a layer as Rows allows its lanes together, of which each lane gets what its scores are worth beside
/// those of the others: at least its best `floor` of what it would get alone, and what is spared (Ada-KV, Feng et al.,
/// arXiv 2407.11550, algorithm 1). Scores must mean the same in all heads, as attention does. Of equal scores the
/// lower head's stays.
struct PITH_API SharedRows {
  Rows rows;
  float floor = 0.2f;  // 0 to 1

  bool due(const KvLayer& layer, const Moment& moment, std::size_t slack) const;
  void allot(const KvLayer& layer, const Moment& moment, std::span<const std::vector<float>> scores,
             std::span<std::size_t> keep) const;
};

/// Tokens of an answer are judged once, `every` of them together, when they have just left its last `recent` tokens: a
/// share of them stays, which falls from `share` at the first layer towards `last` of it, as half a wave of the cosine,
/// rounded down, but at least one (PyramidInfer, Yang et al., arXiv 2405.12532, section 3). A prompt's rows are not
/// judged, nor are those of what stands between two prompts and is no whole `every`.
struct PITH_API LeavingAnswer {
  int recent = 65, every = 16;
  float share = 0.9f, last = 0.1f;

  /// Of the judged, in layer `layer` of `n_layers`.
  std::size_t at(std::size_t layer, std::size_t n_layers) const;
  bool due(const KvLayer& layer, const Moment& moment, std::size_t slack) const;
  void allot(const KvLayer& layer, const Moment& moment, std::span<const std::vector<float>> scores,
             std::span<std::size_t> keep) const;
  bool spares(Position born, const Moment& moment) const {
    return born < moment.next - recent - every || born >= moment.next - recent;
  }
};

/// As many rows in all layers as Rows allows their lanes together; those of most worth stay, wherever they are, and
/// what is spared. Scores must mean the same in all layers.
struct PITH_API RowsOfLayers {
  Rows rows;

  bool due(std::span<const LayerMoment> layers, std::size_t slack) const;
  void allot(std::span<const LayerMoment> layers, std::span<const std::vector<float>> scores,
             std::span<std::size_t> keep) const;
};

/// Rows on average over the layers, more where a prompt's attention is spread than where it rests on few tokens (D2O,
/// Wan et al., arXiv 2406.13035): F of a layer is the mean over its lanes of the variance, over rows, of the
/// attention received, scaled to [0, 1] between the least and the most of its lanes; of the rows of all layers, each
/// gets its softmax(-F), rounded so that the sum is exact, but at least 1 % of the prompt. What is found at a prompt's
/// end holds until the next one ends. The `first` and `last` layers are not judged. Reads column::mass.
struct PITH_API RowsByDensity {
  static constexpr std::string_view state = "rows_by_density";  // [1] of each lane: its rows

  Rows rows;
  int first = 2, last = 1;

  Needs needs() const { return {.evidence = column::mass}; }
  bool due(std::span<const LayerMoment> layers, std::size_t slack) const;
  void allot(std::span<const LayerMoment> layers, std::span<const std::vector<float>>,
             std::span<std::size_t> keep) const;
};

/// Rows on average over the layers, from many in the first to few in the last (PyramidKV, Cai et al., arXiv
/// 2406.02069): what is above `window` falls on a straight line, whose last value is 1 / `steepness` of the average,
/// or more where the first would be more than there is. Lanes get fractions rounded so that the sum is exact.
struct PITH_API PyramidRows {
  Rows rows;
  int window = 0;
  float steepness = 20;

  /// Of layer `layer` of `layers`.
  std::size_t at(std::size_t layer, const Moment& moment) const;
  void allot(const KvLayer& layer, const Moment& moment, std::span<const std::vector<float>>,
             std::span<std::size_t> keep) const {
    std::ranges::fill(keep, at(layer.layer(), moment));
  }
};

/// All rows, but only `sinks` and `recent` in a layer whose last query gives them more than `threshold` of its
/// attention (SimLayerKV, Zhang et al., arXiv 2410.13846, section 4).
struct PITH_API LazyLayers {
  int sinks = 4, recent = 1024;
  float threshold = 0.9f;

  Needs needs() const { return {.evidence = column::last}; }
  void allot(const KvLayer& layer, const Moment& moment, std::span<const std::vector<float>>,
             std::span<std::size_t> keep) const;
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
