// SPDX-License-Identifier: MIT
// Every method the library comes with, sized for the short sequences of tests, and what it promises.
// A new method is a line here.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "pith/prune/methods.hpp"
#include "pith/prune/protect.hpp"
#include "pith/session.hpp"
#include "support/random_worth.hpp"

namespace pith::testing {

enum class Pace {
  every_token,       // the size of a prefill chunk changes nothing
  every_pass,        // judges once per pass: with chunks of 1, token by token
  from_prompts_end,  // the same, but of a prompt, once at its end: as far as that goes, the size of a chunk changes
                     // nothing
};

struct PolicyCase {
  std::string name;
  prune::AnyPolicy policy;
  Pace pace;
  std::optional<std::size_t> rows = {};  // the most that stay in a lane after a pass (SnapKV: after the prompt)
  int spared_sinks = 0;                  // the first tokens are never dropped
  int spared_recent = 0;                 // nor is a token by the next so many
  bool prompts_only = false;             // drops nothing while decoding
  bool changes_values = false;           // of what stays
  std::vector<std::vector<std::size_t>> heads = {};  // [layer] the kv-heads that it works on; empty = all of all layers

  bool works_on(std::size_t layer, std::size_t head) const {
    return heads.empty() || std::ranges::count(heads[layer], head) > 0;
  }
};

inline std::vector<PolicyCase> policy_cases() {
  using namespace prune;
  std::vector<PolicyCase> cases;
  cases.push_back({"none", none(), Pace::every_token});
  cases.push_back({"gate", learned_gate(), Pace::every_token});
  cases.push_back({"gate, harder", learned_gate({.tau = 0.5f}), Pace::every_token});
  cases.push_back({.name = "streaming",
                   .policy = streaming({.sinks = 3, .recent = 20}),
                   .pace = Pace::every_token,
                   .rows = 23,
                   .spared_sinks = 3,
                   .spared_recent = 19});
  cases.push_back({.name = "h2o",
                   .policy = h2o({.rows = 24, .recent = 9}),
                   .pace = Pace::every_pass,
                   .rows = 24,
                   .spared_sinks = 4,
                   .spared_recent = 9});
  cases.push_back({.name = "h2o without recent",
                   .policy = h2o({.rows = 17, .recent = 0}, {.sinks = 0}),
                   .pace = Pace::every_pass,
                   .rows = 17});
  cases.push_back({.name = "snapkv",
                   .policy = snapkv({.rows = 21, .window = 8, .pool = 3}),
                   .pace = Pace::every_token,
                   .rows = 21,
                   .spared_sinks = 4,
                   .spared_recent = 8,
                   .prompts_only = true});
  const auto once_a_prompt = [&](const char* name, AnyPolicy policy, std::optional<std::size_t> rows, int recent) {
    cases.push_back({.name = name,
                     .policy = std::move(policy),
                     .pace = Pace::every_token,
                     .rows = rows,
                     .spared_sinks = 4,
                     .spared_recent = recent,
                     .prompts_only = true});
  };
  const auto every_pass = [&](const char* name, AnyPolicy policy, std::size_t rows, int recent) {
    cases.push_back({.name = name,
                     .policy = std::move(policy),
                     .pace = Pace::every_pass,
                     .rows = rows,
                     .spared_sinks = 4,
                     .spared_recent = recent});
  };
  every_pass("h2o per query, merging", h2o({.rows = 24, .recent = 9, .per_query = 1}, {.merge = 1}), 24, 9);
  every_pass("h2o with slack", h2o({.rows = 20, .recent = 9}, {.slack = 5}), 25, 9);
  every_pass("tova", tova({.rows = 19, .recent = 3}), 19, 3);
  every_pass("keydiff", keydiff({.rows = 22, .recent = 6}), 22, 6);
  every_pass("knorm", knorm({.rows = 22, .recent = 6}), 22, 6);
  // What leaves the prompt between layers is not seen by its own query there.
  once_a_prompt("fastkv", fastkv({.rows = 21, .window = 8, .pool = 3, .tokens = 40}), 21, -1);
  once_a_prompt("pyramidinfer", pyramidinfer({.share = 0.5f, .window = 8, .least = 10, .every = 0}), std::nullopt, -1);
  once_a_prompt("pyramidinfer, answers too",
                pyramidinfer({.share = 0.5f, .window = 8, .least = 10, .every = 4, .answer = 0.5f}), std::nullopt, -1);
  cases.back().prompts_only = false;
  every_pass("lra", lra({.rows = 22, .recent = 6}), 22, 6);
  every_pass("lfa per query", lfa({.rows = 22, .recent = 6, .per_query = 1}), 22, 6);
  every_pass("rkv", rkv({.rows = 20, .window = 6, .pool = 3, .slack = 7}), 27, 6);
  once_a_prompt("defensivekv", defensivekv({.rows = 21, .window = 8, .pool = 3}), std::nullopt, 8);
  once_a_prompt("layer_defensivekv", layer_defensivekv({.rows = 21, .window = 8, .pool = 3}), std::nullopt, 8);
  once_a_prompt("expected_attention", expected_attention({.rows = 22, .recent = 6}), 22, 6);
  once_a_prompt("expected_attention, shared, diagonal",
                expected_attention({.rows = 22, .recent = 6}, {.cov = 1, .epsilon = 0.01f, .floor = 0.2f}),
                std::nullopt, 6);
  once_a_prompt("leverage", leverage({.rows = 22, .recent = 6}), 22, 6);
  once_a_prompt("compactor", compactor({.rows = 22, .recent = 6}, {.block = 16}), 22, 6);
  cases.push_back({.name = "d2o",
                   .policy = d2o({.rows = 20, .recent = 6, .first = 0, .last = 0}),
                   .pace = Pace::from_prompts_end,
                   .spared_sinks = 4,
                   .spared_recent = 6,
                   .changes_values = true});
  once_a_prompt("adakv", adakv({.rows = 21, .window = 8, .pool = 3}), std::nullopt, 8);
  once_a_prompt("criticalkv", criticalkv({.rows = 21, .window = 8, .pool = 3}), 21, 8);
  once_a_prompt("pyramidkv", pyramidkv({.rows = 18, .window = 8, .pool = 3}, {.steepness = 4}), std::nullopt, 8);
  once_a_prompt("snapkv of a share", snapkv({.window = 8, .pool = 3}, {.share = 0.5f}), std::nullopt, 8);
  once_a_prompt("curdkv, merging", curdkv({.rows = 22, .recent = 6}, {.merge = 1}), 22, 6);
  once_a_prompt("lagkv", lagkv({.rows = 20, .lag = 8}), std::nullopt, 8);
  once_a_prompt("simlayerkv", simlayerkv({.sinks = 4, .recent = 12, .threshold = 0.3f}), std::nullopt, 12);
  for (PolicyCase& one : cases)
    if (one.policy.describe().find("merge=1") != std::string::npos) one.changes_values = true;
  return cases;
}

/// The same, and those that are made for models of one shape.
inline std::vector<PolicyCase> policy_cases(const Config& config) {
  using namespace prune;
  std::vector<PolicyCase> cases = policy_cases();
  const auto worth = [&](const char* name, WorthKind kind, Prefill prefill, std::uint64_t seed) {
    cases.push_back({.name = name,
                     .policy = worth_gate(random_worth(seed, config, kind),
                                          {.threshold = middle(kind), .window = 6, .sinks = 3}, prefill),
                     .pace = Pace::every_token,
                     .spared_sinks = 3,
                     .spared_recent = 6});
  };
  worth("worth_gate, linear", WorthKind::linear, Prefill::sparse, 1);
  worth("worth_gate, two layers", WorthKind::mlp, Prefill::dense, 2);
  worth("worth_gate, by sinks", WorthKind::sink, Prefill::sparse, 3);

  if (config.dms)
    cases.push_back({.name = "dms", .policy = dms(), .pace = Pace::every_token, .spared_recent = config.dms->window});

  // The first head of every layer is protected, and of the first layer all are; layers that slide have no scores.
  const auto layers = static_cast<std::size_t>(config.n_layers()), heads = static_cast<std::size_t>(config.n_kv_heads);
  HeadScores scores{{}, std::vector(layers, std::vector<float>(heads))};
  PolicyCase duo_case{.name = "duo",
                      .policy = {},
                      .pace = Pace::every_token,
                      .rows = 23,
                      .spared_sinks = 3,
                      .spared_recent = 19,
                      .heads = std::vector<std::vector<std::size_t>>(layers)};
  std::size_t best = 0, scored = 0;
  for (std::size_t layer = 0; layer < layers; ++layer)
    for (std::size_t head = 0; head < heads; ++head) {
      const bool slides = config.layers[layer].window > 0, kept = !slides && (head == 0 || layer == 0);
      scores.scores[layer][head] = slides ? -std::numeric_limits<float>::infinity() : kept ? 1.0f : 0.0f;
      if (!slides) ++scored;
      if (kept) ++best;
      if (!kept) duo_case.heads[layer].push_back(head);
    }
  if (scored > 0 && best < layers * heads) {
    const float share = static_cast<float>(best) / static_cast<float>(scored);
    duo_case.policy = duo(scores, {.share = share}, {.sinks = 3, .recent = 20});
    cases.push_back(std::move(duo_case));
  }
  return cases;
}

/// Whether the model has a layer that the method may work on.
inline bool runs_on(const PolicyCase& one, const Config& config) {
  return !one.policy.needs().after_pass ||
         std::ranges::any_of(config.layers, [](const LayerPlan& plan) { return plan.window == 0; });
}

/// A method under each combinator, and what it then promises of a model so deep and with so many kv-heads.
inline std::vector<PolicyCase> combined(const PolicyCase& one, const Config& config) {
  using namespace prune;
  std::vector<PolicyCase> all = {one};
  const auto add = [&](const std::string& name, AnyPolicy policy) -> PolicyCase& {
    PolicyCase other = one;
    other.name = name + "(" + one.name + ")";
    other.policy = std::move(policy);
    return all.emplace_back(std::move(other));
  };
  // Of a policy that leaves heads alone by itself, too, both have to list a head.
  const auto on = [&](PolicyCase& promise, std::vector<std::vector<std::size_t>> lists) {
    for (std::size_t layer = 0; layer < lists.size(); ++layer)
      std::erase_if(lists[layer], [&](std::size_t head) { return !one.works_on(layer, head); });
    promise.heads = std::move(lists);
  };
  const auto n_layers = static_cast<std::size_t>(config.n_layers());
  const auto last = static_cast<std::size_t>(config.n_kv_heads) - 1;
  std::vector<std::size_t> heads;
  for (std::size_t h = 0; h <= last; ++h) heads.push_back(h);
  const auto by_layer = [&](auto&& list) {
    std::vector<std::vector<std::size_t>> lists;
    for (std::size_t layer = 0; layer < n_layers; ++layer) lists.push_back(list(layer));
    return lists;
  };

  add("chain", chain(none(), one.policy));
  PolicyCase& at_end = add("on_prefill", on_prefill(one.policy));
  // One that closes rows as they come has not met those of a prompt's earlier passes.
  if (one.pace == Pace::every_token && !one.prompts_only) at_end.rows.reset();
  at_end.prompts_only = true;
  add("per_head", per_head(one.policy));
  add("for_layers", for_layers(0, n_layers, one.policy));
  on(add("for_layers, the last", for_layers(n_layers - 1, n_layers, one.policy)),
     by_layer([&](std::size_t layer) { return layer + 1 == n_layers ? heads : std::vector<std::size_t>(); }));
  add("for_heads", for_heads(heads, one.policy));
  on(add("for_heads, the last", for_heads({last}, one.policy)),
     by_layer([&](std::size_t) { return std::vector{last}; }));
  // Of each layer another list, of the first layer none.
  const auto lists = by_layer([&](std::size_t layer) {
    return layer == 0 ? std::vector<std::size_t>() : layer % 2 == 1 ? std::vector{last} : heads;
  });
  if (n_layers > 1) on(add("for_heads by layer", for_heads(lists, one.policy)), lists);
  add("for_layers of per_head of chain", for_layers(0, n_layers, per_head(chain(one.policy, none()))));
  return all;
}

}  // namespace pith::testing
