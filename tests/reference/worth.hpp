// SPDX-License-Identifier: MIT
// Gates on a token's own state, from their equations in double precision.
#pragma once

#include <limits>
#include <vector>

#include "eviction.hpp"
#include "pith/prune/worth.hpp"

namespace pith::reference {

/// What each kv-head's row of a token is worth: [token][kv-head], of inputs [token][d_model].
Rows worth(const prune::Worth& gate, const Rows& inputs);

/// A row worth less than the threshold is seen by `window` tokens behind it and no more, and, with `prompts`, by all of
/// the prompt that it is in.
class WorthSight : public Visibility {
 public:
  WorthSight(prune::WorthGates gates, prune::WorthGateOptions options, std::vector<Prompt> prompts = {})
      : gates_(std::move(gates)), options_(options), prompts_(std::move(prompts)), worth_(gates_.layers.size()) {}

  bool sees(int layer, int kv_head, int n, int j) const override;
  void reads(int layer, const Rows& inputs) override;

  /// The smallest |worth - threshold|.
  double min_margin() const { return min_margin_; }

 private:
  prune::WorthGates gates_;
  prune::WorthGateOptions options_;
  std::vector<Prompt> prompts_;
  std::vector<Rows> worth_;  // [layer]
  double min_margin_ = std::numeric_limits<double>::infinity();
};

}  // namespace pith::reference
