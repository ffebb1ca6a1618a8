// SPDX-License-Identifier: MIT
// The kv-heads that look things up keep all rows, the others forget.
#pragma once

#include <string>
#include <tuple>

#include "pith/api.hpp"
#include "pith/prune/head_scores.hpp"
#include "pith/prune/option.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// How many heads are protected.
struct ProtectOptions {
  float share = 0.5f;

  static constexpr std::tuple list = {
      Option{"share", &ProtectOptions::share, 0, "of all kv-heads, the best by the file: they keep everything", 1}};
};

/// `policy` on all kv-heads of a model but the best (retrieval heads: Wu et al., arXiv 2404.15574). Throws Error
/// (argument) for a share out of range, or without a score; a session throws Error (model) where its model is not of
/// the shape of the scores.
PITH_API AnyPolicy protect(const HeadScores& heads, const ProtectOptions& o, const AnyPolicy& policy);

/// DuoAttention (Xiao et al., arXiv 2410.10819): the best heads keep everything, the others the first tokens and the
/// latest ones. By the authors' own gates, or by the scores of retrieval heads.
/// Deviation: tokens keep their original positions; the paper renumbers those that are left.
struct DuoOptions {
  int sinks = 128;
  int recent = 256;

  static constexpr std::tuple list = {
      Option{"sinks", &DuoOptions::sinks, 0, "first tokens, which always stay"},
      Option{"recent", &DuoOptions::recent, 1, "latest tokens that stay in the other heads"}};
};
PITH_API AnyPolicy duo(const HeadScores& heads, const ProtectOptions& o = {}, const DuoOptions& d = {});

}  // namespace pith::prune
