// SPDX-License-Identifier: MIT
// Policies that close rows before attention: each decides for every query alone, so that the size of a prefill chunk
// changes nothing.
#pragma once

#include <string>

#include "pith/api.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// Drops row j >= sinks at t_j = min { n >= j + recent : s[n, j] - threshold - tau <= 0 } (arXiv 2305.15805, eq. 5-6,
/// at step decisions). Where kv-heads have lanes of their own, a token is judged once, and closed in each of them.
struct PITH_API LearnedGate {
  float tau = 0;

  Needs needs() const { return {.gate = true}; }
  void before_attention(const KvLayer& layer, const Moment& moment) const;
  std::string describe() const;
};

/// Every token but the first `sinks` is seen by `recent` tokens, itself included.
struct PITH_API SlidingWindow {
  int sinks = 0;
  int recent = 0;

  Needs needs() const { return {}; }
  void before_attention(const KvLayer& layer, const Moment& moment) const;
  std::string describe() const;
};

/// Rows leave as the checkpoint was taught to decide (DMS, arXiv 2506.05345): what token n says is of the row of token
/// n - 1, which is then seen by `window` tokens behind its own and no more, in every kv-head for itself.
struct PITH_API TaughtDecisions {
  int window = 0;  // 0: as it was taught

  Needs needs() const { return {.decisions = true, .lane_per_head = true}; }
  void before_attention(const KvLayer& layer, const Moment& moment) const;
  std::string describe() const;
};

}  // namespace pith::prune
