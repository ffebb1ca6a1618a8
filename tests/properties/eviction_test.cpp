// SPDX-License-Identifier: MIT
// Every policy that really evicts equals a masked forward pass in double precision that simulates it token by token.
#include "reference/eviction.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>

#include "pith/prune/methods.hpp"
#include "support/compare.hpp"
#include "support/decided_models.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"
#include "support/shuffle.hpp"
#include "support/turns.hpp"

namespace pith::testing {
namespace {

using reference::Eviction;
using reference::EvictionRule;
using reference::Lanes;
using reference::Score;

constexpr std::size_t length = 90;

/// TOVA (arXiv 2401.06104) out of the library's parts: what the latest query attends to least goes.
auto tova(std::size_t rows) {
  return prune::Evict{prune::ColumnScore{column::last}, prune::Rows{rows}, prune::Recent{1}};
}

/// A policy, and the same as a simulation made anew for each case.
struct Pair {
  std::string name;
  prune::AnyPolicy policy;
  std::optional<double> tau;  // of the gate, where it is asked
  std::function<std::vector<std::unique_ptr<reference::Visibility>>(const Config&)> simulate;  // the last one is asked
  std::vector<int> chunks;
  std::vector<reference::Prompt> prompts = {{0, static_cast<int>(length)}};
};

template <class... V>
std::vector<std::unique_ptr<reference::Visibility>> list(std::unique_ptr<V>... all) {
  std::vector<std::unique_ptr<reference::Visibility>> out;
  (out.push_back(std::move(all)), ...);
  return out;
}

auto one_eviction(EvictionRule rule) {
  return [rule](const Config& config) { return list(std::make_unique<Eviction>(config, rule)); };
}

const std::vector<int> any_chunk = {256, 17, 1};
const std::vector<int> token_by_token = {1};

double margin(const std::vector<std::unique_ptr<reference::Visibility>>& simulation) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const auto& visibility : simulation)
    if (const auto* eviction = dynamic_cast<const Eviction*>(visibility.get()))
      smallest = std::min(smallest, eviction->min_margin());
  return smallest;
}

void expect_same(const reference::Result& expected, const Fed& fed) {
  EXPECT_LT(relative_error(fed.logits, expected.logits), 1e-5);
  for (std::size_t layer = 0; layer < expected.drop_at.size(); ++layer)
    for (std::size_t head = 0; head < expected.drop_at[layer].size(); ++head)
      EXPECT_EQ(fed.drop_at[layer][fed.drop_at[layer].size() == 1 ? 0 : head], expected.drop_at[layer][head])
          << "layer " << layer << ", kv-head " << head;
}

/// Random models without a sliding window of their own, skipping those where single precision may judge differently.
void check(const Pair& pair, ModelSpec spec = {}) {
  SCOPED_TRACE(pair.name);
  spec.window = 0;
  for_decided_models(spec, {.cases = 5}, [&](const Model& model, std::uint64_t seed) {
    const auto tokens = random_tokens(seed, model.config(), length);
    const auto simulation = pair.simulate(model.config());
    const auto expected = reference::forward(model.config(), model.weights(), tokens,
                                             {.tau = pair.tau, .visibility = simulation.back().get()});
    if (margin(simulation) < 1e-4 || std::ranges::min(expected.min_margin) < 2e-5) return false;
    for (const int chunk : pair.chunks) {
      SCOPED_TRACE("chunks of " + std::to_string(chunk));
      expect_same(expected, feed_turns(model, tokens, pair.prompts, {.policy = pair.policy, .chunk = chunk}));
      SCOPED_TRACE("rows shuffled after each pass");
      expect_same(expected, feed_turns(model, tokens, pair.prompts,
                                       {.policy = prune::chain(pair.policy, Shuffle{seed}), .chunk = chunk}));
    }
    return true;
  });
}

TEST(EvictionTest, Streaming) {
  const auto simulate = [](int sinks, int recent) {
    return [=](const Config&) { return list(std::make_unique<reference::Streaming>(sinks, recent)); };
  };
  check({"sinks and recent", prune::streaming({.sinks = 4, .recent = 11}), std::nullopt, simulate(4, 11), any_chunk});
  check({"recent only", prune::streaming({.sinks = 0, .recent = 5}), std::nullopt, simulate(0, 5), any_chunk});
  check({"each alone", prune::streaming({.sinks = 0, .recent = 1}), std::nullopt, simulate(0, 1), any_chunk});
}

constexpr prune::BudgetOptions no_sinks = {.sinks = 0};

TEST(EvictionTest, HeavyHitters) {
  check({"h2o", prune::h2o({.rows = 16, .recent = 6}, no_sinks), std::nullopt, one_eviction({.rows = 16, .recent = 6}),
         token_by_token});
  check({"h2o over several pages", prune::h2o({.rows = 70, .recent = 5}, no_sinks), std::nullopt,
         one_eviction({.rows = 70, .recent = 5}), token_by_token});
  check({"h2o without recent", prune::h2o({.rows = 9, .recent = 0}, no_sinks), std::nullopt, one_eviction({.rows = 9}),
         token_by_token});
  check({"recent beyond the budget",
         prune::per_head(prune::Evict{prune::attention_mass, prune::Rows{3}, prune::Recent{8}}), std::nullopt,
         one_eviction({.rows = 3, .recent = 8}), token_by_token});
}

TEST(EvictionTest, HeavyHittersInEveryArchitecture) {
  for (const Architecture architecture : architectures())
    check({std::string(name(architecture)), prune::h2o({.rows = 16, .recent = 6}, no_sinks), std::nullopt,
           one_eviction({.rows = 16, .recent = 6}), token_by_token},
          {.architecture = architecture});
}

TEST(EvictionTest, HeavyHittersOfLanesThatHeadsShare) {
  check({"mass", prune::Evict{prune::attention_mass, prune::Rows{14}, prune::Recent{3}}, std::nullopt,
         one_eviction({.lanes = Lanes::shared, .rows = 14, .recent = 3}), token_by_token});
}

TEST(EvictionTest, LatestAttention) {
  check({"tova", tova(13), std::nullopt,
         one_eviction({.score = Score::last, .lanes = Lanes::shared, .rows = 13, .recent = 1}), token_by_token});
  check({"tova per head", prune::per_head(tova(13)), std::nullopt,
         one_eviction({.score = Score::last, .rows = 13, .recent = 1}), token_by_token});
}

TEST(EvictionTest, LatelyAttendedAndOftenAttended) {
  const auto rule = [](Score score) {
    return one_eviction({.score = score, .lanes = Lanes::shared, .rows = 15, .recent = 4});
  };
  check({"lra", prune::lra({.rows = 15, .recent = 4}, no_sinks), std::nullopt, rule(Score::latest), token_by_token});
  check({"lfa", prune::lfa({.rows = 15, .recent = 4}, no_sinks), std::nullopt, rule(Score::often), token_by_token});
  check({"lfa per head", prune::per_head(prune::lfa({.rows = 15, .recent = 4}, no_sinks)), std::nullopt,
         one_eviction({.score = Score::often, .rows = 15, .recent = 4}), token_by_token});
}

void check_snapkv(const std::string& name, int rows, int window, int pool,
                  const std::vector<reference::Prompt>& prompts) {
  check({name, prune::snapkv({.rows = rows, .window = window, .pool = pool}, no_sinks), std::nullopt,
         one_eviction({.score = Score::window, .rows = rows, .recent = window, .pool = pool, .prompts = prompts}),
         any_chunk, prompts});
}

TEST(EvictionTest, ObservationWindow) {
  for (const int pool : {1, 3, 7}) check_snapkv("pool of " + std::to_string(pool), 25, 8, pool, {{0, 70}});
}

TEST(EvictionTest, ObservationWindowOfEachPromptOfAConversation) {
  check_snapkv("conversation", 30, 6, 3, {{0, 50}, {56, 75}, {80, 84}});  // the last is shorter than the window
}

TEST(EvictionTest, ObservationWindowLongerThanThePrompt) { check_snapkv("short", 20, 20, 1, {{0, 12}, {40, 70}}); }

TEST(EvictionTest, OfSomeLayers) {
  check({"h2o in layer 1", prune::for_layers(1, 2, prune::h2o({.rows = 12, .recent = 4}, no_sinks)), std::nullopt,
         one_eviction({.rows = 12, .recent = 4, .first_layer = 1, .last_layer = 2}), token_by_token},
        {.n_layers = 3});
}

TEST(EvictionTest, OfSomeHeads) {
  check({"h2o in head 0", prune::for_heads({0}, prune::h2o({.rows = 12, .recent = 4}, no_sinks)), std::nullopt,
         one_eviction({.rows = 12, .recent = 4, .heads = {0}}), token_by_token});
}

TEST(EvictionTest, OfWhatTheGateLeaves) {
  check({"gate, then h2o", prune::chain(prune::learned_gate(), prune::h2o({.rows = 10, .recent = 3}, no_sinks)), 0.0,
         one_eviction({.rows = 10, .recent = 3}), token_by_token});
}

TEST(EvictionTest, OfWhatAPromptIsShortenedTo) {
  const std::vector<reference::Prompt> prompts = {{0, 60}};
  const auto simulate = [&](const Config& config) {
    auto snapkv = std::make_unique<Eviction>(
        config, EvictionRule{.score = Score::window, .rows = 25, .recent = 6, .pool = 3, .prompts = prompts});
    auto h2o = std::make_unique<Eviction>(config, EvictionRule{.rows = 40, .recent = 6}, snapkv.get());
    return list(std::move(snapkv), std::move(h2o));
  };
  check({"snapkv, then h2o",
         prune::chain(prune::snapkv({.rows = 25, .window = 6, .pool = 3}, no_sinks),
                      prune::h2o({.rows = 40, .recent = 6}, no_sinks)),
         std::nullopt, simulate, token_by_token, prompts});
}

/// Sees what a session has not dropped.
struct Mask : reference::Visibility {
  explicit Mask(const DropAt& drops) : drop_at(drops) {}
  bool sees(int layer, int kv_head, int n, int j) const override {
    const auto& lanes = drop_at[static_cast<std::size_t>(layer)];
    const auto& lane = lanes[lanes.size() == 1 ? 0 : static_cast<std::size_t>(kv_head)];
    const int at = lane[static_cast<std::size_t>(j)];
    return at < 0 || n < at;
  }
  const DropAt& drop_at;
};

// Whatever a method judges by, what it leaves is what attention sees; those that change values are left out.
TEST(EvictionTest, OfEveryMethodEqualsAMaskOfWhatItDropped) {
  for (const std::uint64_t seed : {71u, 72u, 73u}) {
    const Model model = random_model({.seed = seed, .n_layers = 3, .window = 0});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(seed, model.config(), length);
    for (const PolicyCase& one : policy_cases()) {
      if (one.changes_values) continue;
      SCOPED_TRACE(one.name);
      Session session(model, {.policy = one.policy, .threads = 1, .chunk = 16, .record_drops = true});
      const SequenceId sequence = session.add(std::span(tokens).first(60), Logits::all);
      Logits2d logits;
      step_into(session, sequence, logits);
      for (const Token token : std::span(tokens).subspan(60)) {
        session.push(sequence, token);
        step_into(session, sequence, logits);
      }
      const DropAt drops = session.drop_at(sequence);
      Mask mask(drops);
      const auto expected =
          reference::forward(model.config(), model.weights(), tokens, {.tau = std::nullopt, .visibility = &mask});
      EXPECT_LT(relative_error(logits, expected.logits), 1e-5);
    }
  }
}

// In one pass of many tokens the gate closes rows in the middle; what judges at the end of the pass judges the others.
TEST(EvictionTest, RowsThatTheGateClosedInThePassAreNotJudged) {
  constexpr std::size_t pass = 64;
  // One whose gate leaves some rows and not most.
  const auto gated = [](std::uint64_t seed) {
    Model model = random_model({.seed = seed, .n_layers = 1, .window = 0});
    const auto tokens = random_tokens(seed, model.config(), pass);
    return std::tuple(model, tokens, feed(model, tokens, {pass}, {.policy = prune::learned_gate()}));
  };
  std::uint64_t seed = 3;
  const auto some = [](const Fed& fed) { return fed.stats.live_rows[0] > 4 && fed.stats.live_rows[0] < pass / 2; };
  while (!some(std::get<Fed>(gated(seed)))) ASSERT_LT(++seed, 30u);
  const auto [model, tokens, gate] = gated(seed);
  SCOPED_TRACE(describe(model));
  const std::size_t left = gate.stats.live_rows[0];
  const std::size_t rows = left - 2;
  const Fed both = feed(model, tokens, {pass},
                        {.policy = prune::chain(prune::learned_gate(),
                                                prune::h2o({.rows = static_cast<int>(rows), .recent = 0}, no_sinks))});
  EXPECT_EQ(both.stats.live_rows[0], rows * both.drop_at[0].size());
  for (std::size_t head = 0; head < both.drop_at[0].size(); ++head)
    EXPECT_EQ(both.drop_at[0][head], gate.drop_at[0][0]) << "kv-head " << head;
}

}  // namespace
}  // namespace pith::testing
