// SPDX-License-Identifier: MIT
// What is dropped is really gone: bytes in use follow the live rows, in prefill too, and a finished sequence leaves
// nothing behind.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/feed.hpp"
#include "support/kv.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr std::size_t length = 1000;

/// The share of earlier tokens that a query sees, over layers and queries.
double mean_kept(const DropAt& drop_at) {
  double seen = 0, before = 0;
  for (const auto& layer : drop_at) {
    for (const auto& lane : layer) {
      const auto tokens = static_cast<int>(lane.size());
      for (int j = 0; j < tokens; ++j) {
        const int drop = lane[static_cast<std::size_t>(j)];
        seen += (drop < 0 ? tokens : drop) - j;
        before += tokens - j;
      }
    }
  }
  return seen / before;
}

struct Gated {
  Model model;
  std::vector<Token> tokens;
  float tau = 0;  // at which a fifth is kept
};

/// A model whose gate can be told how much to keep: higher tau, fewer tokens.
Gated keeps_a_fifth(std::uint64_t seed) {
  const Model model = random_model({.seed = seed,
                                    .architecture = Architecture::llama,
                                    .head_dim = 32,
                                    .n_layers = 3,
                                    .gate_bias = 2.0f,
                                    .gate_recent = 1,
                                    .context = static_cast<int>(length)});
  const auto tokens = random_tokens(seed, model.config(), length);
  float low = -3, high = 3;  // keep more, keep less than wanted
  for (int i = 0; i < 12; ++i) {
    const float tau = (low + high) / 2;
    const Fed fed = feed(model, tokens, {256}, {.policy = prune::learned_gate({.tau = tau})});
    (mean_kept(fed.drop_at) > 0.2 ? low : high) = tau;
  }
  return {model, tokens, high};
}

TEST(MemoryTest, OfAGateThatKeepsAFifth) {
  const Gated gated = keeps_a_fifth(3);
  SCOPED_TRACE(describe(gated.model));
  for (const Feeding feeding : {Feeding{64}, Feeding{256}, Feeding{Feeding::decode}}) {
    SCOPED_TRACE(feeding.name());
    const Fed dense = feed(gated.model, gated.tokens, feeding, {.policy = prune::none()});
    const Fed pruned = feed(gated.model, gated.tokens, feeding, {.policy = prune::learned_gate({.tau = gated.tau})});
    ASSERT_NEAR(mean_kept(pruned.drop_at), 0.2, 0.03);
    EXPECT_LE(4 * pruned.stats.bytes_used, dense.stats.bytes_used);
    EXPECT_LE(2 * pruned.stats.bytes_high_water, dense.stats.bytes_high_water);
  }
}

TEST(MemoryTest, InUseIsThePagesOfTheLiveRows) {
  constexpr std::size_t page_rows = PageLayout::capacity;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Model model = random_model({.seed = seed, .n_layers = 2});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(seed, model.config(), 200);
    for (const PolicyCase& one : policy_cases(model.config())) {
      SCOPED_TRACE(one.name);
      const Fed fed = feed(model, tokens, {32}, {.policy = one.policy});
      const std::size_t lanes = fed.drop_at.size() * fed.drop_at[0].size();
      const std::size_t dense_pages = lanes * ((tokens.size() + page_rows - 1) / page_rows);
      ASSERT_EQ(fed.stats.bytes_dense % dense_pages, 0u);
      const std::size_t page = fed.stats.bytes_dense / dense_pages;
      std::size_t rows = 0;
      for (const std::size_t live : fed.stats.live_rows) rows += live;
      // Each lane fills its pages but the last.
      EXPECT_GE(fed.stats.bytes_used, (rows + page_rows - 1) / page_rows * page);
      EXPECT_LE(fed.stats.bytes_used, (rows / page_rows + lanes) * page);
      EXPECT_LE(fed.stats.bytes_used, fed.stats.bytes_high_water);
      EXPECT_LE(fed.stats.bytes_high_water, fed.stats.bytes_reserved);
      if (fed.stats.dropped_rows == 0) {
        EXPECT_EQ(fed.stats.bytes_used, fed.stats.bytes_dense);
      }
    }
  }
}

// What judges a prompt pass by pass never holds more than its budget and a chunk.
TEST(MemoryTest, OfAPromptThatIsJudgedPassByPassIsBounded) {
  constexpr std::size_t rows = 2 * PageLayout::capacity, chunk = PageLayout::capacity;
  const Model model = random_model({.seed = 6, .n_layers = 2, .window = 0, .context = static_cast<int>(length)});
  const auto tokens = random_tokens(6, model.config(), length);
  const int most = static_cast<int>(rows);
  for (const prune::AnyPolicy& policy :
       {prune::keydiff({.rows = most, .recent = 8}), prune::knorm({.rows = most, .recent = 8}),
        prune::h2o({.rows = most, .recent = 8}), prune::tova({.rows = most}), prune::lra({.rows = most, .recent = 8}),
        prune::lfa({.rows = most, .recent = 8}), prune::rkv({.rows = most, .slack = 0})}) {
    SCOPED_TRACE(policy.describe());
    const Fed fed = feed(model, tokens, {static_cast<int>(chunk)}, {.policy = policy});
    const std::size_t pages = (length + PageLayout::capacity - 1) / PageLayout::capacity;
    EXPECT_LE(fed.stats.bytes_high_water, fed.stats.bytes_dense / pages * ((rows + chunk) / PageLayout::capacity));
  }
}

// A page holds the keys and values of its rows and little else.
TEST(MemoryTest, OfADenseCacheIsKeysAndValues) {
  const Model model = random_model({.seed = 4, .head_dim = 64, .n_layers = 2, .window = 0});
  const auto tokens = random_tokens(4, model.config(), 128);
  const std::size_t numbers = 2 * tokens.size() * static_cast<std::size_t>(model.config().d_kv());
  for (const KvPair& kv : kv_pairs()) {
    SCOPED_TRACE(name(kv));
    const Fed fed = feed(model, tokens, {64}, {.policy = prune::none(), .kv = kv});
    const std::size_t bytes = row_bytes(kv.keys, numbers) + row_bytes(kv.values, numbers);
    EXPECT_GE(fed.stats.bytes_used, bytes);
    EXPECT_LE(fed.stats.bytes_used, bytes * 9 / 8);
  }
}

TEST(MemoryTest, GoesBackToThePoolAndOnRequestToTheSystem) {
  const Model model = random_model({.seed = 5, .n_layers = 2});
  const auto tokens = random_tokens(5, model.config(), 200);
  Session session(model, {.threads = 1});
  const SequenceId first = session.add(tokens), second = session.add(std::span(tokens).first(77));
  while (!session.idle()) session.step();
  const std::size_t used = session.stats().bytes_used;
  EXPECT_EQ(used, session.stats(first).bytes_used + session.stats(second).bytes_used);

  session.finish(first);
  EXPECT_EQ(session.stats().bytes_used, session.stats(second).bytes_used);
  EXPECT_LT(session.stats().bytes_used, used);
  EXPECT_GE(session.stats().bytes_reserved, used) << "kept for the next sequence";
  session.finish(second);
  EXPECT_EQ(session.stats().bytes_used, 0u);

  const std::size_t reserved = session.stats().bytes_reserved;
  EXPECT_EQ(session.trim(), reserved);
  EXPECT_EQ(session.stats().bytes_reserved, 0u);
  EXPECT_EQ(session.trim(), 0u);
  EXPECT_GE(session.stats().bytes_high_water, used);

  session.add(tokens);
  EXPECT_EQ(session.step().size(), 1u) << "the pool can be used again";
}

}  // namespace
}  // namespace pith::testing
