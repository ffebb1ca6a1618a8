// SPDX-License-Identifier: MIT
// A ragged batch computes for each of its sequences, bit by bit, what the sequence gets alone; so does any number of
// threads.
#include <gtest/gtest.h>

#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/kv.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

/// Eight sequences of all lengths: single tokens, less and more than a chunk, ends of chunks.
std::vector<Script> ragged(const Model& model, std::uint64_t seed) {
  std::vector<Script> scripts;
  for (const std::size_t prompt : {1u, 70u, 2u, 33u, 16u, 32u, 5u, 47u}) {
    const std::size_t rest = (prompt * 7 + 3) % 29;
    const auto tokens = random_tokens(seed * 1000 + prompt, model.config(), prompt + rest);
    const auto split = tokens.begin() + static_cast<std::ptrdiff_t>(prompt);
    scripts.push_back({{tokens.begin(), split}, {split, tokens.end()}});
  }
  return scripts;
}

SessionOptions recorded(SessionOptions options, int threads, int ahead = 0) {
  options.record_drops = true;
  options.threads = threads;
  options.chunk = 16;
  options.ahead = ahead;
  return options;
}

void expect_same(const Played& alone, const Played& together) {
  EXPECT_TRUE(same_bits(together.logits, alone.logits));
  EXPECT_EQ(together.drop_at, alone.drop_at);
}

void check(const Model& model, std::uint64_t seed, const SessionOptions& options) {
  const auto scripts = ragged(model, seed);
  std::vector<Played> alone;
  for (const Script& script : scripts) {
    Session session(model, recorded(options, 1));
    alone.push_back(play(session, {script}, DropLog::Keep::history)[0]);
    ASSERT_EQ(alone.back().logits.size(), script.rest.size() + 1);
  }
  // Passes of several chunks, too: two of a prompt, or one and others.
  for (const auto& [threads, ahead] : {std::pair(1, 0), std::pair(2, 0), std::pair(1, 40)}) {
    Session session(model, recorded(options, threads, ahead));
    const auto together = play(session, scripts, DropLog::Keep::history);
    for (std::size_t i = 0; i < scripts.size(); ++i) {
      SCOPED_TRACE("sequence " + std::to_string(i) + " of a batch, threads: " + std::to_string(threads) +
                   ", ahead: " + std::to_string(ahead));
      expect_same(alone[i], together[i]);
    }
    EXPECT_EQ(session.stats().bytes_used, 0u);
  }
}

TEST(BatchTest, EqualsSingles) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const Model model = random_model({.seed = seed});
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(model));
    check(model, seed, {});
  }
}

TEST(BatchTest, EqualsSinglesUnderEveryPolicy) {
  const Model model = random_model({.seed = 9, .n_layers = 2});
  SCOPED_TRACE(describe(model));
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    check(model, 9, {.policy = one.policy});
  }
}

TEST(BatchTest, EqualsSinglesInEveryArchitecture) {
  for (const Architecture architecture : architectures()) {
    const Model model = random_model({.seed = 12, .architecture = architecture, .n_layers = 3});
    SCOPED_TRACE(describe(model));
    check(model, 12, {});
    check(model, 12, {.policy = prune::h2o({.rows = 24, .recent = 9})});
  }
}

TEST(BatchTest, EqualsSinglesInEveryFormat) {
  for (const Format weights : all_formats) {
    for (const KvFormat kv : kv_formats) {
      const Model model = random_model({.seed = 10, .format = weights, .head_dim = 32, .n_layers = 2});
      SCOPED_TRACE(describe(model) + ", cache in " + std::string(name(kv)));
      check(model, 10, {.kv = kv});
    }
  }
}

TEST(BatchTest, EqualsSinglesWhereKeysAndValuesDiffer) {
  const Model model = random_model({.seed = 10, .head_dim = 96, .n_layers = 2});
  SCOPED_TRACE(describe(model));
  for (const KvPair& kv : kv_pairs()) {
    SCOPED_TRACE(name(kv));
    check(model, 10, {.kv = kv});
    check(model, 10, {.policy = prune::h2o({.rows = 24, .recent = 9}), .kv = kv});
  }
}

TEST(BatchTest, OfOneIsTheSameByAnyNumberOfThreads) {
  const Model model = random_model({.seed = 11, .architecture = Architecture::qwen3, .head_dim = 64, .n_layers = 2});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(11, model.config(), 150);
  for (const PolicyCase& one : policy_cases(model.config())) {
    for (const Feeding feeding : {Feeding{64}, Feeding{Feeding::decode}}) {
      SCOPED_TRACE(one.name + ", " + feeding.name());
      const Fed expected = feed(model, tokens, feeding, {.policy = one.policy, .threads = 1});
      for (const int threads : {2, 3}) {
        const Fed fed = feed(model, tokens, feeding, {.policy = one.policy, .threads = threads});
        EXPECT_TRUE(same_bits(fed.logits, expected.logits)) << threads << " threads";
        EXPECT_EQ(fed.drop_at, expected.drop_at) << threads << " threads";
      }
    }
  }
}

}  // namespace
}  // namespace pith::testing
