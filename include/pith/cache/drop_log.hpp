// SPDX-License-Identifier: MIT
// What a sequence has dropped: since a drop is final, its whole history is one integer per (layer, lane, token).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "pith/cache/page_layout.hpp"

namespace pith::inline cache {

/// A row that was dropped.
struct Drop {
  std::size_t layer = 0, lane = 0;
  Position position = 0;  // of the token
  Position until = 0;     // the first position that does not see it
  float gate_score = 0;   // the gate's s - threshold - tau at the drop; 0 where no gate judged the row
};

class DropLog {
 public:
  enum class Keep { counts, history };
  /// What was dropped, but for what nobody has taken yet.
  struct Record {
    std::vector<std::uint64_t> dropped;        // rows, per layer
    std::vector<std::vector<Position>> until;  // [layer * lanes_per_layer + lane][position]; none without history
  };
  DropLog(Keep keep, std::size_t layers, std::size_t lanes_per_layer)
      : keep_(keep),
        lanes_(lanes_per_layer),
        record_{std::vector<std::uint64_t>(layers),
                std::vector<std::vector<Position>>(keep == Keep::history ? layers * lanes_per_layer : 0)},
        fresh_(keep == Keep::history ? layers : 0) {}

  /// Different layers may be recorded side by side.
  void record(const Drop& drop) {
    ++record_.dropped[drop.layer];
    if (keep_ == Keep::counts) return;
    auto& row = record_.until[drop.layer * lanes_ + drop.lane];
    const auto j = static_cast<std::size_t>(drop.position);
    if (row.size() <= j) row.resize(j + 1, never);
    row[j] = drop.until;
    fresh_[drop.layer].push_back(drop);
  }

  /// Forgets the layer's latest record, which nobody has taken yet.
  void take_back(std::size_t layer) {
    --record_.dropped[layer];
    if (keep_ == Keep::counts) return;
    const Drop& drop = fresh_[layer].back();
    record_.until[drop.layer * lanes_ + drop.lane][static_cast<std::size_t>(drop.position)] = never;
    fresh_[layer].pop_back();
  }

  /// The first position that does not see token `born`; never = it is still there.
  Position until(std::size_t layer, std::size_t lane, Position born) const {
    const auto& row = record_.until[layer * lanes_ + lane];
    const auto j = static_cast<std::size_t>(born);
    return j < row.size() ? row[j] : never;
  }

  /// Calls f(drop) for what was recorded since the last call.
  template <class F>
  void take_fresh(F&& f) {
    for (auto& drops : fresh_) {
      for (const Drop& drop : drops) f(drop);
      drops.clear();
    }
  }

  bool has_history() const { return keep_ == Keep::history; }
  const Record& record() const { return record_; }
  void restore(Record record) { record_ = std::move(record); }
  std::uint64_t dropped() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t n : record_.dropped) sum += n;
    return sum;
  }

 private:
  Keep keep_;
  std::size_t lanes_;
  Record record_;
  std::vector<std::vector<Drop>> fresh_;  // [layer]
};

}  // namespace pith::inline cache
