// SPDX-License-Identifier: MIT
// What a session is made of, worked out once: its policy, what that needs, how rows lie, how prompts are read.
#pragma once

#include <cstddef>
#include <vector>

#include "pith/cache/kv_cache.hpp"
#include "pith/nn/pass.hpp"
#include "pith/prune/policy.hpp"
#include "pith/session.hpp"

namespace pith {

struct Setup {
  /// Throws as Session's constructor.
  Setup(Model some_model, SessionOptions some_options);

  std::size_t d_model() const { return static_cast<std::size_t>(config.d_model); }
  std::size_t lanes_per_layer() const { return needs.lane_per_head ? static_cast<std::size_t>(config.n_kv_heads) : 1; }
  bool shares_lanes() const;  // some layers read those of others
  bool keeps_history() const { return options.record_drops || options.on_drop; }
  std::size_t expected_tokens() const;  // of a sequence: what there is room for at once
  Stage all_layers() const { return {.begin = 0, .end = config.layers.size()}; }
  bool whole(const Stage& stage) const { return stage.begin == 0 && stage.end == config.layers.size(); }

  /// For a sequence without a past. `pool` outlives it.
  KvCache make_cache(PagePool& pool) const;

  const Model model;
  const SessionOptions options;
  const Config& config;  // the model's
  const prune::AnyPolicy policy;
  const prune::Needs needs;
  const std::vector<Stage> stages;  // of a prompt: layers that it goes through together, before others
  const std::size_t context;
  const KvLayouts layouts;
  const bool by_rounds;   // a pass may take several chunks of a prompt
  const bool takes_back;  // tokens, without a mark, where none of what was before them has been dropped since
};

/// Throws Error (unsupported) where no token may leave before a layer (Session::draft), as layers are judged together
/// or share lanes.
void require_early_exit(const Config& config, const prune::Needs& needs);

}  // namespace pith
