// SPDX-License-Identifier: MIT
// How much of their context the queries still see.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pith::tool {

using DropAt = std::vector<std::vector<std::vector<std::int32_t>>>;  // [layer][lane][position], -1 = never

/// Of all pairs (query, earlier or same token), the fraction that is visible; over any number of sequences.
class Kept {
 public:
  void add(const DropAt& drop_at);
  /// The same of a sequence that has dropped so many rows.
  void add(const DropAt& drop_at, std::uint64_t dropped_rows);

  std::vector<double> per_layer() const;
  double mean() const;                                 // over layers
  bool drops_at_end() const { return drops_at_end_; }  // some tokens, when the last of their text had seen them

 private:
  std::vector<double> visible_;  // pairs, per layer, mean over lanes
  double pairs_ = 0;             // causal ones
  bool drops_at_end_ = false;
};

/// The fraction of lanes, over all layers, that still hold each token.
std::vector<double> held_by(const DropAt& drop_at);

}  // namespace pith::tool
