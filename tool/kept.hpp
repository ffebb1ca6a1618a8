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

  std::vector<double> per_layer() const;
  double mean() const;  // over layers

 private:
  std::vector<double> visible_;  // pairs, per layer, mean over lanes
  double pairs_ = 0;             // causal ones
};

/// The fraction of lanes, over all layers, that still hold each token.
std::vector<double> held_by(const DropAt& drop_at);

}  // namespace pith::tool
