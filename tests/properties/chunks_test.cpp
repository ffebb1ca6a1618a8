// SPDX-License-Identifier: MIT
// The size of a prefill chunk changes neither what is dropped nor the logits.
#include <gtest/gtest.h>

#include <algorithm>

#include "reference/decoder.hpp"
#include "support/compare.hpp"
#include "support/decided_models.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

struct Rounding {
  Format weights = Format::f32;
  KvPair kv = KvFormat::f32;
  double tolerance = 1e-5;  // of the logits
  double margin = 2e-5;     // of the judgements of gates: the least that is not for rounding to decide
};

/// Gates whose judgements are all further from the threshold than rounding can move them.
bool is_decided(const Model& model, std::span<const Token> tokens, double margin) {
  for (const double tau : {0.0, 0.5}) {
    const auto result = reference::forward(model.config(), model.weights(), tokens, {.tau = tau});
    if (std::ranges::min(result.min_margin) < margin) return false;
  }
  return true;
}

void check(const Model& model, std::span<const Token> tokens, const PolicyCase& one, const Rounding& rounding) {
  SCOPED_TRACE(one.name + ", cache in " + name(rounding.kv));
  const SessionOptions options{.policy = one.policy, .kv = rounding.kv};
  const Fed whole = feed(model, tokens, {static_cast<int>(tokens.size())}, options);
  for (const Feeding feeding : {Feeding{64}, Feeding{33}, Feeding{7}, Feeding{1}}) {
    SCOPED_TRACE(feeding.name());
    const Fed fed = feed(model, tokens, feeding, options);
    EXPECT_LT(relative_error(fed.logits, whole.logits), rounding.tolerance);
    EXPECT_EQ(fed.drop_at, whole.drop_at);
    EXPECT_EQ(fed.stats.live_rows, whole.stats.live_rows);
  }
}

void check_random(int cases, ModelSpec spec, const Rounding& rounding) {
  spec.format = rounding.weights;
  for_decided_models(spec, {.first = 40, .end = 140, .cases = cases}, [&](const Model& model, std::uint64_t seed) {
    const auto tokens = random_tokens(seed, model.config(), 100);
    if (!is_decided(model, tokens, rounding.margin)) return false;
    // Gates on a token's state are decided where nothing is rounded but sums.
    const bool exact = rounding.weights == Format::f32 && rounding.kv == KvFormat::f32;
    for (const PolicyCase& one : exact ? policy_cases(model.config()) : policy_cases())
      if (one.pace != Pace::every_pass && runs_on(one, model.config())) check(model, tokens, one, rounding);
    return true;
  });
}

TEST(ChunksTest, ChangeNothing) { check_random(8, {}, {}); }

TEST(ChunksTest, ChangeNothingInEveryArchitecture) {
  for (const Architecture architecture : architectures()) check_random(2, {.architecture = architecture}, {});
}

TEST(ChunksTest, ChangeNothingInRoundedCaches) {
  check_random(3, {}, {.kv = KvFormat::f16, .tolerance = 1e-3, .margin = 2e-4});
  for (const KvPair kv : {KvPair{KvFormat::f16, KvFormat::f32}, KvPair{KvFormat::f32, KvFormat::f16}})
    check_random(2, {}, {.kv = kv, .tolerance = 1e-3, .margin = 2e-4});
  check_random(3, {}, {.kv = KvFormat::bf16, .tolerance = 5e-3, .margin = 5e-4});
  // The gate of the first layer does not see what is cached.
  check_random(3, {.head_dim = 32, .n_layers = 1}, {.kv = KvFormat::q8_0, .tolerance = 2e-2});
  check_random(3, {.head_dim = 32, .n_layers = 1}, {.kv = {KvFormat::q8_0, KvFormat::f16}, .tolerance = 2e-2});
  check_random(2, {.head_dim = 32, .n_layers = 1}, {.kv = KvFormat::q4_0, .tolerance = 0.1});
}

TEST(ChunksTest, ChangeNothingWithQuantisedWeights) {
  for (const Format weights : all_formats)
    if (wants_quantised(weights)) check_random(2, {.n_layers = 1}, {.weights = weights, .tolerance = 2e-2});
}

// A policy that judges once per pass says so; its pace is that of the passes, whoever makes them.
TEST(ChunksTest, OfOneAreTokensPushedOneByOne) {
  const Model model = random_model({.seed = 5});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(5, model.config(), 80);
  for (const PolicyCase& one : policy_cases()) {
    // What acts at a prompt's end, does so on another prompt; and PyramidInfer has another rule for what is pushed.
    if (one.name == "snapkv" || one.name == "pyramidinfer, answers too" || one.pace == Pace::from_prompts_end) continue;
    SCOPED_TRACE(one.name);
    const Fed chunks = feed(model, tokens, {1}, {.policy = one.policy});
    const Fed pushed = feed(model, tokens, {Feeding::decode}, {.policy = one.policy});
    EXPECT_TRUE(same_bits(chunks.logits, pushed.logits));
    EXPECT_EQ(chunks.drop_at, pushed.drop_at);
  }
}

}  // namespace
}  // namespace pith::testing
