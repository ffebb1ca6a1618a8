// SPDX-License-Identifier: MIT
// Random models, made once, so small that thousands of sessions a second have room in them.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::test {

constexpr int small_context = 64;

struct SmallShape {
  Model model;
  std::vector<testing::PolicyCase> policies;
};

/// One of some dozens: every architecture, gates of layers and of heads, plans that no architecture has, lanes that
/// layers share, models that DMS taught, weights in blocks.
inline const SmallShape& small_shape(std::size_t which) {
  using testing::ModelSpec;
  static std::map<std::size_t, SmallShape> made;
  which %= 48;
  const auto found = made.find(which);
  if (found != made.end()) return found->second;
  ModelSpec spec{.seed = 100 + which, .head_dim = 32, .n_layers = 2, .context = small_context};
  const auto all = testing::architectures();
  if (which < 32) spec.architecture = all[which % all.size()];
  if (which % 4 == 1) spec.gate_scope = GateScope::kv_head;
  if (which % 5 == 1) spec.format = Format::q8_0;
  if (which % 6 == 1) spec.dms = ModelSpec::Dms::yes;
  if (which % 3 == 1) spec.window = 0;
  if (which >= 32 && which < 40) spec.plans = ModelSpec::Plans::any;
  if (which >= 40) spec.lanes = ModelSpec::Lanes::shared;
  Model model = testing::random_model(spec);
  auto policies = testing::policy_cases(model.config());
  return made.emplace(which, SmallShape{std::move(model), std::move(policies)}).first->second;
}

}  // namespace pith::test
