// SPDX-License-Identifier: MIT
// Every method the library comes with, sized for the short sequences of tests, and what it promises.
// A new method is a line here.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "pith/prune/methods.hpp"
#include "pith/session.hpp"

namespace pith::testing {

enum class Pace {
  every_token,  // the size of a prefill chunk changes nothing
  every_pass,   // judges once per pass: with chunks of 1, token by token
};

struct PolicyCase {
  std::string name;
  prune::AnyPolicy policy;
  Pace pace;
  std::optional<std::size_t> rows = {};  // the most that stay in a lane after a pass (SnapKV: after the prompt)
  int spared_sinks = 0;                  // the first tokens are never dropped
  int spared_recent = 0;                 // nor is a token by the next so many
  bool prompts_only = false;             // drops nothing while decoding
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
  once_a_prompt("pyramidinfer", pyramidinfer({.share = 0.5f, .window = 8, .least = 10}), std::nullopt, -1);
  once_a_prompt("adakv", adakv({.rows = 21, .window = 8, .pool = 3}), std::nullopt, 8);
  once_a_prompt("criticalkv", criticalkv({.rows = 21, .window = 8, .pool = 3}), 21, 8);
  once_a_prompt("pyramidkv", pyramidkv({.rows = 18, .window = 8, .pool = 3}, {.steepness = 4}), std::nullopt, 8);
  once_a_prompt("snapkv of a share", snapkv({.window = 8, .pool = 3}, {.share = 0.5f}), std::nullopt, 8);
  once_a_prompt("curdkv, merging", curdkv({.rows = 22, .recent = 6}, {.merge = 1}), 22, 6);
  once_a_prompt("lagkv", lagkv({.rows = 20, .lag = 8}), std::nullopt, 8);
  once_a_prompt("simlayerkv", simlayerkv({.sinks = 4, .recent = 12, .threshold = 0.3f}), std::nullopt, 12);
  return cases;
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
  add("for_layers, the last", for_layers(n_layers - 1, n_layers, one.policy)).heads =
      by_layer([&](std::size_t layer) { return layer + 1 == n_layers ? heads : std::vector<std::size_t>(); });
  add("for_heads", for_heads(heads, one.policy));
  add("for_heads, the last", for_heads({last}, one.policy)).heads =
      by_layer([&](std::size_t) { return std::vector{last}; });
  // Of each layer another list, of the first layer none.
  const auto lists = by_layer([&](std::size_t layer) {
    return layer == 0 ? std::vector<std::size_t>() : layer % 2 == 1 ? std::vector{last} : heads;
  });
  if (n_layers > 1) add("for_heads by layer", for_heads(lists, one.policy)).heads = lists;
  add("for_layers of per_head of chain", for_layers(0, n_layers, per_head(chain(one.policy, none()))));
  return all;
}

}  // namespace pith::testing
