// SPDX-License-Identifier: MIT
// What the rows of a context are worth to a model that writes the context down again (KVzip, Kim et al.,
// arXiv 2505.23416).
#pragma once

#include <cstddef>
#include <vector>

#include "pith/api.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// Of every token in every lane: the most attention that any query of a replay has given its row.
class PITH_API ReplayWorth {
 public:
  ReplayWorth(std::size_t layers, std::size_t lanes, std::size_t tokens)
      : worth_(layers, std::vector(lanes, std::vector<float>(tokens))) {}

  float& at(std::size_t layer, std::size_t lane, Position token) {
    return worth_[layer][lane][static_cast<std::size_t>(token)];
  }

  /// In layers that `judged` says, of all rows that `share` of them stay which are worth most, over layers and lanes
  /// together (rounded to whole rows); sinks and pinned rows stay in any case, and count. `next`: the first position
  /// that does not see what leaves. Of equals, the later token stays, then the lower layer's and head's.
  void evict(KvCache& cache, const std::vector<bool>& judged, float share, Position sinks, Position next) const;

 private:
  std::vector<std::vector<std::vector<float>>> worth_;  // [layer][lane][token]
};

/// A policy that forgets nothing. Tokens from `replay` on repeat those of [begin, end): their attention, as if they saw
/// only the sinks, what they repeat, and each other, goes into `worth`.
struct PITH_API ObserveReplay {
  Position sinks, begin, end, replay;
  ReplayWorth* worth;  // outlives it

  Needs needs() const { return {}; }
  void after_attention(const KvLayer& layer, const Moment& moment) const;
};

}  // namespace pith::prune
