// SPDX-License-Identifier: MIT
// Every policy under every combinator in every cache format runs, keeps its budget, spares what it promises to spare,
// and leaves an empty pool behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "pith/prune/spec.hpp"
#include "support/feed.hpp"
#include "support/kv.hpp"
#include "support/policies.hpp"
#include "support/promises.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr int prompt = 70, rest = 40;

struct Case {
  PolicyCase promise;
  KvPair kv;
  std::optional<GateKeys> gate_keys = {};  // none = as usual for such a cache
};

std::vector<Case> cases(const Config& config) {
  std::vector<Case> all;
  for (const PolicyCase& one : policy_cases(config))
    for (const PolicyCase& policy : combined(one, config))
      for (const KvPair& kv : kv_pairs()) {
        if (!policy.policy.needs().gate)
          all.push_back({policy, kv});
        else
          for (const GateKeys keys : {GateKeys::f32, GateKeys::f16}) all.push_back({policy, kv, keys});
      }
  return all;
}

void run(const Model& model, const Case& one, int chunk) {
  SCOPED_TRACE(one.promise.name + ", cache in " + name(one.kv) +
               (one.gate_keys == GateKeys::f16 ? " with gate keys in f16" : "") + ", chunks of " +
               std::to_string(chunk));
  expect_promises(model, one.promise, {.kv = one.kv, .gate_keys = one.gate_keys, .chunk = chunk}, prompt, rest);
}

TEST(PoliciesTest, KeepTheirPromisesInEveryCombinationAndFormat) {
  const Model grouped = random_model({.seed = 31, .architecture = Architecture::qwen3, .head_dim = 32, .n_layers = 2});
  const Model plain = random_model({.seed = 33, .architecture = Architecture::gpt2, .head_dim = 32, .n_layers = 2});
  ASSERT_GT(std::max(grouped.config().n_kv_heads, plain.config().n_kv_heads), 1);
  for (const Model& model : {grouped, plain}) {
    SCOPED_TRACE(describe(model));
    for (const Case& one : cases(model.config()))
      for (const int chunk : {16, 128}) run(model, one, chunk);
  }
}

TEST(PoliciesTest, ThatAModelWasTaughtKeepTheirPromises) {
  const Model model = random_model(
      {.seed = 38, .architecture = Architecture::qwen3, .head_dim = 32, .n_layers = 2, .dms = ModelSpec::Dms::yes});
  SCOPED_TRACE(describe(model));
  for (const Case& one : cases(model.config()))
    if (one.promise.policy.needs().decisions)
      for (const int chunk : {16, 128}) run(model, one, chunk);
}

TEST(PoliciesTest, KeepTheirPromisesInEveryArchitecture) {
  for (const Architecture architecture : architectures()) {
    const Model model = random_model({.seed = 37, .architecture = architecture, .n_layers = 3, .window = 0});
    SCOPED_TRACE(describe(model));
    for (const Case& one : cases(model.config()))
      if (one.kv == KvFormat::f32) run(model, one, 16);
  }
}

TEST(PoliciesTest, OfSomeLayersLeaveTheOthersWhole) {
  const Model model = random_model({.seed = 33, .n_layers = 3, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(33, model.config(), 90);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    const Fed fed = feed(model, tokens, {32}, {.policy = prune::for_layers(1, 2, one.policy)});
    const Fed all = feed(model, tokens, {32}, {.policy = one.policy});
    const std::size_t whole = tokens.size() * fed.drop_at[0].size();
    EXPECT_EQ(fed.stats.live_rows[0], whole);
    EXPECT_EQ(fed.stats.live_rows[2], whole);
    EXPECT_EQ(fed.stats.live_rows[1] == whole, all.stats.dropped_rows == 0);
  }
}

TEST(PoliciesTest, OfSomeHeadsLeaveTheOthersWhole) {
  std::uint64_t seed = 34;
  while (random_model({.seed = seed}).config().n_kv_heads < 3) ++seed;
  const Model model = random_model({.seed = seed, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(seed, model.config(), 90);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    const Fed fed = feed(model, tokens, {32}, {.policy = prune::for_heads({0, 2}, one.policy)});
    for (const auto& layer : fed.drop_at)
      for (const auto drop : layer[1]) EXPECT_EQ(drop, -1);
    if (one.rows) {
      EXPECT_GT(fed.stats.dropped_rows, 0u);
    }
  }
}

TEST(PoliciesTest, OnPrefillLeaveDecodingAlone) {
  const Model model = random_model({.seed = 35, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(35, model.config(), 60);
  Session session(model,
                  {.policy = prune::on_prefill(prune::h2o({.rows = 12, .recent = 4})), .threads = 1, .chunk = 8});
  const SequenceId sequence = session.add(tokens);
  session.step();
  const auto after_prompt = session.stats(sequence).live_rows;
  const auto lanes = static_cast<std::size_t>(model.config().n_kv_heads);
  for (const std::size_t rows : after_prompt) EXPECT_EQ(rows, 12 * lanes);
  for (int i = 0; i < 30; ++i) {
    session.push(sequence, tokens[static_cast<std::size_t>(i)]);
    session.step();
  }
  const auto after_decoding = session.stats(sequence).live_rows;
  for (std::size_t layer = 0; layer < after_prompt.size(); ++layer)
    EXPECT_EQ(after_decoding[layer], after_prompt[layer] + 30 * lanes);
}

TEST(PoliciesTest, OnPrefillClosesRowsWhateverTheChunk) {
  const Model model = random_model({.seed = 36, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(36, model.config(), 60);
  for (const char* spec : {"on_prefill(gate)", "on_prefill(streaming(sinks=1,recent=8))"}) {
    std::vector<std::vector<std::vector<std::vector<std::int32_t>>>> drops;
    for (const int chunk : {1, 7, 60}) {
      Session session(model, {.policy = prune::parse(spec), .threads = 1, .chunk = chunk, .record_drops = true});
      const SequenceId sequence = session.add(tokens);
      session.step();
      for (int i = 0; i < 5; ++i) {
        session.push(sequence, tokens[0]);
        session.step();
      }
      drops.push_back(session.drop_at(sequence));
      EXPECT_GT(session.stats(sequence).dropped_rows, 0u) << spec;
    }
    EXPECT_EQ(drops[0], drops[2]) << spec;
    EXPECT_EQ(drops[1], drops[2]) << spec;
  }
}

}  // namespace
}  // namespace pith::testing
