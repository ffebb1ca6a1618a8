// SPDX-License-Identifier: MIT
// Every method the library comes with, sized for the short sequences of tests, and what it promises.
// A new method is a line here.
#pragma once

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
                   .spared_recent = 9});
  cases.push_back(
      {.name = "h2o without recent", .policy = h2o({.rows = 17, .recent = 0}), .pace = Pace::every_pass, .rows = 17});
  cases.push_back({.name = "snapkv",
                   .policy = snapkv({.rows = 21, .window = 8, .pool = 3}),
                   .pace = Pace::every_token,
                   .rows = 21,
                   .spared_recent = 8});
  return cases;
}

/// A method under each combinator that leaves its promises standing, of a model so deep and with so many kv-heads.
inline std::vector<PolicyCase> combined(const PolicyCase& one, const Config& config) {
  using namespace prune;
  std::vector<PolicyCase> all = {one};
  const auto add = [&](const std::string& name, AnyPolicy policy) {
    PolicyCase other = one;
    other.name = name + "(" + one.name + ")";
    other.policy = std::move(policy);
    all.push_back(std::move(other));
  };
  add("chain", chain(none(), one.policy));
  add("per_head", per_head(one.policy));
  std::vector<std::size_t> heads;
  for (int h = 0; h < config.n_kv_heads; ++h) heads.push_back(static_cast<std::size_t>(h));
  add("for_layers", for_layers(0, static_cast<std::size_t>(config.n_layers()), one.policy));
  add("for_heads", for_heads(heads, one.policy));
  add("for_heads by layer", for_heads(std::vector(static_cast<std::size_t>(config.n_layers()), heads), one.policy));
  return all;
}

}  // namespace pith::testing
