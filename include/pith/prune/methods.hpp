// SPDX-License-Identifier: MIT
// The papers: each one line over the parts, its deviations named.
#pragma once

#include <cmath>

#include "pith/api.hpp"
#include "pith/error.hpp"
#include "pith/prune/budgets.hpp"
#include "pith/prune/combinators.hpp"
#include "pith/prune/evict.hpp"
#include "pith/prune/intervals.hpp"
#include "pith/prune/policy.hpp"
#include "pith/prune/scorers.hpp"
#include "pith/prune/spelling.hpp"

namespace pith::prune {

/// Throws Error (argument) unless `value` is at least `least`; `what` names the option.
PITH_API int at_least(int least, int value, const char* what);

/// Forgets nothing.
inline AnyPolicy none() { return {}; }

/// Dynamic Context Pruning (Anagnostidis et al., arXiv 2305.15805): the model's own learned gate, as trained at
/// tau = 0; a higher tau forgets more. Exact, token by token.
struct LearnedGateOptions {
  float tau = 0;
};
inline AnyPolicy learned_gate(LearnedGateOptions o = {}) {
  require(!std::isnan(o.tau), ErrorCode::argument, "gate: tau is not a number");
  return LearnedGate{o.tau};
}

/// StreamingLLM (Xiao et al., arXiv 2309.17453): the first tokens and the latest ones. Exact, token by token.
/// Deviation: tokens keep their original positions; the paper renumbers those that are left.
struct StreamingOptions {
  int sinks = 4;
  int recent = 508;
};
inline AnyPolicy streaming(StreamingOptions o = {}) {
  return SlidingWindow{at_least(0, o.sinks, "streaming: sinks"), at_least(1, o.recent, "streaming: recent")};
}

/// H2O (Zhang et al., arXiv 2306.14048): the tokens that received most attention so far, and the latest ones, in every
/// kv-head. Acts once per forward pass: with a prefill chunk of 1, after every token as in the paper.
/// Deviation: attention is summed over the query heads that share a kv-head.
struct H2oOptions {
  int rows = 1024;  // all that stay, the recent ones included
  int recent = 256;
};
inline AnyPolicy h2o(H2oOptions o = {}) {
  const Rows rows{static_cast<std::size_t>(at_least(1, o.rows, "h2o: rows"))};
  return Method{spell("h2o", {{"rows", o.rows}, {"recent", o.recent}}),
                per_head(Evict{attention_mass, rows, Recent{at_least(0, o.recent, "h2o: recent")}})};
}

/// SnapKV (Li et al., arXiv 2404.14469): at the end of the prompt, keeps in every kv-head the tokens to which the
/// prompt's last `window` tokens attend most, with their neighbours before the window, and the window itself.
/// Deviation: attention is summed over the query heads that share a kv-head.
struct SnapKvOptions {
  int rows = 2048;  // all that stay, the window included
  int window = 32;
  int pool = 7;  // neighbouring tokens over which the maximum is taken; odd
};
inline AnyPolicy snapkv(SnapKvOptions o = {}) {
  require(o.pool % 2 == 1, ErrorCode::argument, "snapkv: pool must be odd");
  const ObservationWindow scorer{at_least(1, o.window, "snapkv: window"), at_least(1, o.pool, "snapkv: pool")};
  const Rows rows{static_cast<std::size_t>(at_least(1, o.rows, "snapkv: rows"))};
  return Method{spell("snapkv", {{"rows", o.rows}, {"window", o.window}, {"pool", o.pool}}),
                on_prefill(per_head(Evict{scorer, rows, Recent{o.window}}))};
}

}  // namespace pith::prune
