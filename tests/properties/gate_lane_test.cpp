// SPDX-License-Identifier: MIT
// Whatever kv-heads do with their rows, the gate's key of a token is stored once in a layer and judged once; what it
// drops, and with what score, is the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"
#include "support/compare.hpp"
#include "support/feed.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

struct Dropped {
  Logits2d logits;
  std::map<std::tuple<std::size_t, std::size_t, Position>, std::pair<Position, std::uint32_t>> drops;
  CacheStats stats;
};

/// All logits, and every drop with the bits of its score.
Dropped run(const Model& model, std::span<const Token> tokens, Feeding feeding, const std::string& policy,
            KvFormat kv = KvFormat::f32) {
  Dropped result;
  SessionOptions options{.policy = prune::parse(policy), .kv = kv, .threads = 1};
  if (feeding.chunk != Feeding::decode) options.chunk = feeding.chunk;
  options.on_drop = [&](SequenceId, const Drop& drop) {
    result.drops[{drop.layer, drop.lane, drop.position}] = {drop.until, std::bit_cast<std::uint32_t>(drop.gate_score)};
  };
  Session session(model, std::move(options));
  const std::size_t prompt = feeding.chunk == Feeding::decode ? 1 : tokens.size();
  const SequenceId sequence = session.add(tokens.first(prompt), Logits::all);
  step_into(session, sequence, result.logits);
  for (const Token token : tokens.subspan(prompt)) {
    session.push(sequence, token);
    step_into(session, sequence, result.logits);
  }
  result.stats = session.stats(sequence);
  return result;
}

Model several_heads(std::uint64_t& seed, ModelSpec spec = {}) {
  while (true) {
    spec.seed = seed++;
    const Model model = random_model(spec);
    if (model.config().n_kv_heads > 1) return model;
  }
}

// Policies in which all heads forget alike: the same whether they share a lane or not.
TEST(GateLaneTest, DropsAsItDidInTheLaneOfTheHeads) {
  std::uint64_t seed = 50;
  for (int trial = 0; trial < 6; ++trial) {
    const Model model = several_heads(seed, {.n_layers = 2});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(seed, model.config(), 130);
    for (const std::string policy :
         {"gate", "gate(tau=0.4)", "streaming(sinks=2,recent=30),gate", "gate,streaming(sinks=0,recent=9)",
          "gate(tau=-0.3),for_layers(layers=1,streaming(sinks=1,recent=5)),gate(tau=0.2)",
          "on_prefill(gate),streaming(sinks=0,recent=40)"})
      for (const Feeding feeding : {Feeding{256}, Feeding{37}, Feeding{1}, Feeding{Feeding::decode}}) {
        SCOPED_TRACE(policy + ", " + feeding.name());
        const Dropped shared = run(model, tokens, feeding, policy);
        const Dropped apart = run(model, tokens, feeding, "per_head(" + policy + ")");
        EXPECT_TRUE(same_bits(apart.logits, shared.logits));
        const auto heads = static_cast<std::size_t>(model.config().n_kv_heads);
        EXPECT_EQ(apart.drops.size(), heads * shared.drops.size());
        for (const auto& [where, what] : apart.drops) {
          const auto found = shared.drops.find({std::get<0>(where), 0, std::get<2>(where)});
          ASSERT_NE(found, shared.drops.end());
          EXPECT_EQ(found->second, what) << "layer " << std::get<0>(where) << ", token " << std::get<2>(where);
        }
      }
  }
}

// Heads that forget differently: each as if it were alone with the gate.
TEST(GateLaneTest, JudgesForEachHeadWhatThatHeadStillSees) {
  std::uint64_t seed = 70;
  for (int trial = 0; trial < 4; ++trial) {
    const Model model = several_heads(seed, {.n_layers = 1, .window = 0});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(seed, model.config(), 120);
    for (const Feeding feeding : {Feeding{256}, Feeding{17}, Feeding{1}}) {
      SCOPED_TRACE(feeding.name());
      const std::string streaming = "streaming(sinks=1,recent=12)";
      const Dropped mixed =
          run(model, tokens, feeding, "for_heads(heads=0," + streaming + "),gate,for_heads(heads=1,gate(tau=0.5))");
      const Dropped first = run(model, tokens, feeding, streaming + ",gate");
      const Dropped second = run(model, tokens, feeding, "gate,gate(tau=0.5)");
      std::size_t by_streaming = 0;
      for (const auto& [where, what] : mixed.drops) {
        const auto& [layer, lane, token] = where;
        if (lane > 1) continue;
        const Dropped& alone = lane == 0 ? first : second;
        const auto found = alone.drops.find({layer, 0, token});
        ASSERT_NE(found, alone.drops.end());
        EXPECT_EQ(what, found->second) << "head " << lane << ", token " << token;
        by_streaming += lane == 0 && what.first == token + 12;
      }
      EXPECT_GT(by_streaming, 0u);
    }
  }
}

/// Another policy, and the lanes that it was handed, call by call.
struct Watched {
  prune::AnyPolicy policy;
  std::vector<std::vector<std::size_t>>* calls;

  prune::Needs needs() const { return policy.needs(); }
  void before_attention(const KvLayer& layer, const prune::Moment& moment) const {
    auto& numbers = calls->emplace_back();
    for (std::size_t l = 0; l < layer.lanes().size(); ++l) numbers.push_back(layer.lanes().number(l));
    policy.before_attention(layer, moment);
  }
};

TEST(GateLaneTest, JudgesOnceForTheHeadsOfAList) {
  std::uint64_t seed = 75;
  Model model = several_heads(seed, {.n_layers = 2, .window = 0});
  while (model.config().n_kv_heads < 3) model = several_heads(seed, {.n_layers = 2, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(seed, model.config(), 90);
  const auto drops = [&](prune::AnyPolicy policy) {
    return feed(model, tokens, {256}, {.policy = std::move(policy)}).drop_at;
  };
  std::vector<std::vector<std::size_t>> calls;
  const prune::AnyPolicy gate = Watched{prune::learned_gate(), &calls};
  const DropAt together = drops(prune::for_heads({0, 2}, gate));
  EXPECT_EQ(calls, (decltype(calls){{0, 2}, {0, 2}})) << "once a layer";
  EXPECT_EQ(together, drops(prune::parse("for_heads(heads=0,gate),for_heads(heads=2,gate)")));
  EXPECT_GT(std::ranges::count_if(together[1][2], [](int drop) { return drop >= 0; }), 0);

  // What several lists choose is what all of them name.
  calls.clear();
  EXPECT_EQ(drops(prune::for_heads({0, 2}, prune::for_heads({1, 2}, gate))),
            drops(prune::parse("for_heads(heads=2,gate)")));
  EXPECT_EQ(calls, (decltype(calls){{2}, {2}}));
  calls.clear();
  drops(prune::for_heads({0, 2}, prune::for_heads({1}, gate)));
  EXPECT_TRUE(calls.empty());
  const std::vector<std::vector<std::size_t>> by_layer = {{}, {1, 2}};
  drops(prune::for_heads({0, 1, 2}, prune::for_heads(by_layer, gate)));
  EXPECT_EQ(calls, (decltype(calls){{1, 2}}));
}

// A layer whose kv-heads have gates of their own: what head h drops is what a gate of the layer like its own would.
TEST(GateLaneTest, HeadsWithGatesOfTheirOwnForgetOnTheirOwn) {
  std::uint64_t seed = 95;
  for (int trial = 0; trial < 4; ++trial) {
    const Model model =
        several_heads(seed, {.n_layers = 1, .gate_scope = GateScope::kv_head, .window = trial < 2 ? 0 : 40});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(seed, model.config(), 120);
    for (const std::string policy : {"gate", "gate(tau=0.3)", "for_heads(heads=1,gate),streaming(sinks=1,recent=50)"}) {
      const Dropped all = run(model, tokens, {256}, policy);
      std::size_t drops = 0;
      for (std::size_t head = 0; head < static_cast<std::size_t>(model.config().n_kv_heads); ++head) {
        SCOPED_TRACE(policy + ", head " + std::to_string(head));
        Config config = model.config();
        config.gate->scope = GateScope::layer;
        Weights weights = model.weights();
        DropGateWeights& gate = weights.layers[0].drop_gate;
        const auto dim = static_cast<std::size_t>(config.gate->dim);
        gate = {gate.wq.rows_from(head * dim, dim), gate.wk.rows_from(head * dim, dim), {gate.bias[head]}};
        const Dropped alone = run(Model::create(config, weights), tokens, {256}, "per_head(" + policy + ")");
        for (const auto& [where, what] : alone.drops) {
          if (std::get<1>(where) != head) continue;
          ++drops;
          const auto found = all.drops.find(where);
          ASSERT_NE(found, all.drops.end()) << "token " << std::get<2>(where);
          EXPECT_EQ(found->second, what) << "token " << std::get<2>(where);
        }
      }
      EXPECT_EQ(all.drops.size(), drops);
      EXPECT_GT(drops, 50u);
      if (!policy.starts_with("gate")) continue;  // the score of what another closed is the last of its chunk
      for (const Feeding feeding : {Feeding{37}, Feeding{1}, Feeding{Feeding::decode}})
        EXPECT_EQ(run(model, tokens, feeding, policy).drops, all.drops) << policy << ", " << feeding.name();
    }
  }
}

TEST(GateLaneTest, TakesNoMoreThanTheKeysOnce) {
  std::uint64_t seed = 80;
  const Model model = several_heads(seed, {.head_dim = 32, .n_layers = 2, .gate_bias = 100.0f});  // drops nothing
  SCOPED_TRACE(describe(model));
  const Config& c = model.config();
  const auto tokens = random_tokens(seed, c, 128);
  for (const KvFormat kv : kv_formats) {
    SCOPED_TRACE(name(kv));
    const auto bytes = [&](const std::string& policy) { return run(model, tokens, {64}, policy, kv).stats.bytes_used; };
    const std::size_t rows = tokens.size() * static_cast<std::size_t>(c.n_layers());
    const std::size_t key = static_cast<std::size_t>(c.gate->dim) * (kv == KvFormat::f32 ? 4 : 2);
    const std::size_t heads = bytes("per_head(none)"), both = bytes("gate,per_head(none)"), one = bytes("gate");
    // Beside each key its position, its end and one column, and, where scores are recorded, a score in every lane.
    const std::size_t score = rows * static_cast<std::size_t>(c.n_kv_heads) * 4;
    EXPECT_GE(both, heads + rows * key);
    EXPECT_LE(both, heads + rows * (key + 16) + score + 64 * rows / 16);
    EXPECT_GE(one, bytes("none") + rows * key);
    EXPECT_LE(one, bytes("none") + rows * (key + 8));
  }
}

TEST(GateLaneTest, GivesBackTheKeysOfTokensThatNoHeadHolds) {
  std::uint64_t seed = 90;
  const Model model = several_heads(seed, {.n_layers = 2, .window = 0, .context = 512});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(seed, model.config(), 400);
  Session session(model,
                  {.policy = prune::parse("gate(tau=-100),per_head(streaming(sinks=0,recent=32))"), .threads = 1});
  const SequenceId sequence = session.add(tokens);
  session.step();
  const CacheStats stats = session.stats(sequence);
  EXPECT_EQ(stats.live_rows[0], 31u * static_cast<std::size_t>(model.config().n_kv_heads));
  EXPECT_EQ(stats.bytes_dense, 13 * stats.bytes_used) << "one page of 13 in every lane";
  // A fork is as large, and both go on alike.
  const SequenceId fork = session.fork(sequence);
  EXPECT_EQ(session.stats(fork).bytes_used, stats.bytes_used);
  session.push(sequence, tokens[0]);
  session.push(fork, tokens[0]);
  const auto outputs = session.step();
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_TRUE(std::ranges::equal(outputs[0].logits, outputs[1].logits));
  session.finish(sequence);
  session.finish(fork);
  EXPECT_EQ(session.stats().bytes_used, 0u);
}

TEST(GateLaneTest, KeysAreRoundedAsAsked) {
  const Model model = random_model({.seed = 5, .n_layers = 2});
  const auto tokens = random_tokens(5, model.config(), 150);
  const auto bytes = [&](KvFormat kv, std::optional<GateKeys> keys) {
    return feed(model, tokens, {64}, {.kv = kv, .gate_keys = keys}).stats.bytes_dense;
  };
  EXPECT_EQ(bytes(KvFormat::f32, {}), bytes(KvFormat::f32, GateKeys::f32));
  EXPECT_EQ(bytes(KvFormat::f16, {}), bytes(KvFormat::f16, GateKeys::f16));
  EXPECT_EQ(bytes(KvFormat::bf16, {}), bytes(KvFormat::bf16, GateKeys::f16));
  EXPECT_LT(bytes(KvFormat::f16, GateKeys::f16), bytes(KvFormat::f16, GateKeys::f32));
  // Judged in f32, whatever the chunk, over what is stored.
  for (const GateKeys keys : {GateKeys::f32, GateKeys::f16}) {
    const Fed whole = feed(model, tokens, {256}, {.gate_keys = keys});
    EXPECT_GT(whole.stats.dropped_rows, 100u);
    for (const Feeding feeding : {Feeding{40}, Feeding{1}, Feeding{Feeding::decode}})
      EXPECT_EQ(feed(model, tokens, feeding, {.gate_keys = keys}).drop_at[0], whole.drop_at[0]) << feeding.name();
  }
}

}  // namespace
}  // namespace pith::testing
