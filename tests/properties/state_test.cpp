// SPDX-License-Identifier: MIT
// What a policy remembers beside rows belongs to its sequence: a fork takes it along, finishing frees it. And what
// judges all layers together leaves those alone that have a sliding window of their own.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

/// Pushes tokens and collects what comes of them.
void push(Session& session, SequenceId sequence, std::span<const Token> tokens, Logits2d& logits) {
  for (const Token token : tokens) {
    session.push(sequence, token);
    step_into(session, sequence, logits);
  }
}

TEST(StateTest, GoesWithAFork) {
  const Model model = random_model({.seed = 51, .n_layers = 3, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(51, model.config(), 140);
  const std::span all(tokens);
  for (const PolicyCase& one : policy_cases()) {
    SCOPED_TRACE(one.name);
    Session session(model, {.policy = one.policy, .threads = 1, .chunk = 16, .record_drops = true});
    Logits2d expected, forked, ignored;
    // The fork is made in the middle of a prompt's passes, in the middle of decoding, and goes through another prompt.
    const SequenceId origin = session.add(all.first(50));
    session.pass();
    const SequenceId early = session.fork(origin);
    step_into(session, early, ignored);
    push(session, origin, all.subspan(50, 20), ignored);
    push(session, early, all.subspan(50, 20), ignored);
    const SequenceId late = session.fork(origin);
    // Another goes another way meanwhile.
    push(session, early, all.subspan(100, 20), ignored);
    for (const SequenceId sequence : {origin, late}) {
      Logits2d& logits = sequence == origin ? expected : forked;
      push(session, sequence, all.subspan(70, 20), logits);
      session.prompt(sequence, all.subspan(90, 40));
      step_into(session, sequence, logits);
      push(session, sequence, all.subspan(130, 10), logits);
    }
    EXPECT_TRUE(same_bits(forked, expected));
    EXPECT_EQ(session.drop_at(late), session.drop_at(origin));
    for (const SequenceId sequence : {origin, early, late}) session.finish(sequence);
    EXPECT_EQ(session.stats().bytes_used, 0u);
    EXPECT_EQ(session.stats().bytes_state, 0u);
  }
}

TEST(StateTest, IsCounted) {
  const Model model = random_model({.seed = 52, .n_layers = 2, .window = 0});
  const auto tokens = random_tokens(52, model.config(), 30);
  const auto bytes = [&](const prune::AnyPolicy& policy) {
    return feed(model, tokens, {8}, {.policy = policy}).stats.bytes_state;
  };
  const auto heads = static_cast<std::size_t>(model.config().n_heads * model.config().n_layers());
  const auto dim = static_cast<std::size_t>(model.config().head_dim);
  EXPECT_EQ(bytes(prune::h2o()), 0u);
  EXPECT_GE(bytes(prune::expected_attention()), heads * (dim + dim * dim) * sizeof(float));
  EXPECT_LT(bytes(prune::expected_attention({}, {.cov = 0})), heads * (2 * dim + 2) * sizeof(float));
}

TEST(StateTest, OfTwoPoliciesIsNotMixedUp) {
  const Model model = random_model({.seed = 53, .n_layers = 2, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(53, model.config(), 90);
  const auto rkv = prune::rkv({.rows = 30, .window = 6, .pool = 3, .slack = 4});
  const auto expected = prune::expected_attention({.rows = 40, .recent = 6});
  const auto run = [&](const prune::AnyPolicy& policy) {
    Session session(model, {.policy = policy, .threads = 1, .chunk = 16, .record_drops = true});
    const SequenceId sequence = session.add(std::span(tokens).first(60));
    Logits2d logits;
    step_into(session, sequence, logits);
    push(session, sequence, std::span(tokens).subspan(60), logits);
    return session.drop_at(sequence);
  };
  // Queries that nothing judges by change nothing.
  EXPECT_EQ(run(prune::chain(prune::expected_attention({.rows = 1000}), rkv)), run(rkv));
  // The same statistics, though two policies gather them.
  EXPECT_EQ(run(prune::chain(expected, prune::expected_attention({.rows = 1000}))), run(expected));
}

std::size_t rows(const Fed& fed, std::size_t layer) { return fed.stats.live_rows[layer]; }

TEST(LayersTogetherTest, KeepToOneBudget) {
  const Model model = random_model({.seed = 54, .n_layers = 4, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(54, model.config(), 101);
  const auto lanes = static_cast<std::size_t>(model.config().n_kv_heads);
  Session session(model, {.policy = prune::layer_defensivekv({.rows = 30, .window = 8, .pool = 3, .sure = 0}),
                          .threads = 1,
                          .chunk = 32,
                          .record_drops = true});
  const SequenceId sequence = session.add(std::span(tokens).first(100));
  session.step();
  const auto live = session.stats(sequence).live_rows;
  EXPECT_EQ(std::accumulate(live.begin(), live.end(), std::size_t{0}), 4 * lanes * 30);
  EXPECT_NE(std::ranges::min(live), std::ranges::max(live)) << "they go where they are worth most";
  session.push(sequence, tokens[100]);
  session.step();
  for (const auto& layer : session.drop_at(sequence))
    for (const auto& lane : layer)
      for (std::size_t j = 0; j < 100; ++j) {
        EXPECT_TRUE(lane[j] == -1 || (lane[j] == 100 && j >= 4 && j < 92)) << "token " << j << " at " << lane[j];
      }
}

TEST(LayersTogetherTest, LeaveSlidingOnesAlone) {
  constexpr int window = 20;
  const Model model = random_model({.seed = 55, .architecture = Architecture::gemma3, .n_layers = 5, .window = window});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(55, model.config(), 80);
  const Fed dense = feed(model, tokens, {16}, {.policy = prune::per_head(prune::none())});
  for (const auto& policy : {prune::layer_defensivekv({.rows = 30, .window = 8, .pool = 3}),
                             prune::d2o({.rows = 30, .recent = 6, .first = 0, .last = 0})}) {
    const Fed fed = feed(model, tokens, {16}, {.policy = policy});
    std::size_t together = 0, whole = 0;
    for (std::size_t layer = 0; layer < 5; ++layer) {
      if (model.config().layers[layer].window > 0) {
        EXPECT_EQ(rows(fed, layer), rows(dense, layer));
        EXPECT_EQ(fed.drop_at[layer], dense.drop_at[layer]);
      } else {
        together += rows(fed, layer);
        ++whole;
      }
    }
    ASSERT_GT(whole, 1u);
    EXPECT_LE(together, whole * 30 * static_cast<std::size_t>(model.config().n_kv_heads));
  }
}

TEST(LayersTogetherTest, AreRefusedWhereAllLayersSlide) {
  Model model = random_model({.seed = 56, .architecture = Architecture::mistral, .n_layers = 1, .window = 16});
  EXPECT_EQ(error_of([&] { Session(model, {.policy = prune::layer_defensivekv()}); }), ErrorCode::unsupported);
  EXPECT_EQ(error_of([&] { Session(model, {.policy = prune::d2o()}); }), ErrorCode::unsupported);
  EXPECT_EQ(error_of([&] { Session(model, {.policy = prune::defensivekv()}); }), std::nullopt);
}

// Keys of a gate that all kv-heads share leave when the last of a token's rows does, in whichever layer that is.
TEST(LayersTogetherTest, TakeTheGatesKeysAlong) {
  const Model model = random_model({.seed = 57, .n_layers = 3, .gate_bias = 9.0f, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(57, model.config(), 100);
  for (const auto& policy : {prune::layer_defensivekv({.rows = 20, .window = 8, .pool = 3}),
                             prune::d2o({.rows = 20, .recent = 6, .first = 0, .last = 0})}) {
    const Fed alone = feed(model, tokens, {16}, {.policy = policy});
    const Fed gated =
        feed(model, tokens, {16}, {.policy = prune::chain(prune::learned_gate({.tau = -INFINITY}), policy)});
    EXPECT_EQ(gated.drop_at, alone.drop_at);
    const Fed whole = feed(model, tokens, {16}, {.policy = prune::per_head(prune::learned_gate({.tau = -INFINITY}))});
    EXPECT_LT(gated.stats.bytes_used - alone.stats.bytes_used,
              whole.stats.bytes_used -
                  feed(model, tokens, {16}, {.policy = prune::per_head(prune::none())}).stats.bytes_used);
  }
}

TEST(LayersTogetherTest, AreThoseThatACombinatorNames) {
  const Model model = random_model({.seed = 58, .architecture = Architecture::llama, .n_layers = 4, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(58, model.config(), 100);
  const auto lanes = static_cast<std::size_t>(model.config().n_kv_heads);
  const auto policy = prune::layer_defensivekv({.rows = 30, .window = 8, .pool = 3});
  const Fed fed = feed(model, tokens, {32}, {.policy = prune::for_layers(1, 3, policy)});
  EXPECT_EQ(rows(fed, 0), 100 * lanes);
  EXPECT_EQ(rows(fed, 3), 100 * lanes);
  EXPECT_EQ(rows(fed, 1) + rows(fed, 2), 2 * 30 * lanes);
  const std::vector<std::vector<std::size_t>> heads = {{}, {0}, {}, {lanes - 1}};
  const Fed some = feed(model, tokens, {32}, {.policy = prune::for_heads(heads, policy)});
  EXPECT_EQ(rows(some, 0) + rows(some, 2), 2 * 100 * lanes);
  EXPECT_EQ(rows(some, 1) + rows(some, 3), 2 * 100 * (lanes - 1) + 2 * 30);
}

}  // namespace
}  // namespace pith::testing
