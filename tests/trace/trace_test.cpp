// SPDX-License-Identifier: MIT
// What a trace says agrees with what the session did, and all that is shown follows from drop_at.
#include "pith/trace.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "pith/logprobs.hpp"
#include "pith/prune/methods.hpp"
#include "support/errors.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

/// Rows of a gated layer after the pass that ends before `next`: who will be dropped by `next` is still there.
std::size_t live(const Trace& trace, std::size_t layer, Position next) {
  std::size_t rows = 0;
  for (const auto& lane : trace.drop_at[layer])
    for (Position j = 0; j < next; ++j) {
      const Position until = lane[static_cast<std::size_t>(j)];
      rows += until < 0 || until >= next ? 1u : 0u;
    }
  return rows;
}

struct Traced {
  Trace trace;
  std::vector<Token> tokens;
};

Traced evaluate(const Model& model, const prune::AnyPolicy& policy, int chunk, std::size_t count) {
  Tracer tracer;
  Session session(model, tracer.attach({.policy = policy, .threads = 1, .chunk = chunk}));
  const auto tokens = random_tokens(5, model.config(), count);
  const SequenceId id = session.add(tokens, Logits::all);
  std::size_t next = 1;
  while (!session.idle())
    for (const Output& output : session.step()) {
      if (next < tokens.size()) tracer.predicted(id, next, output.logits, tokens[next]);
      ++next;
    }
  return {tracer.trace(session, id), tokens};
}

TEST(TraceTest, LiveRowsOfEveryPassFollowFromDropAt) {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    const Model model = random_model({.seed = seed, .window = 0});
    for (const int chunk : {1, 7, 64}) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed << ", chunk " << chunk);
      const auto [trace, tokens] = evaluate(model, prune::learned_gate(), chunk, 90);
      EXPECT_EQ(trace.tokens, tokens);
      ASSERT_EQ(trace.passes.size(),
                (tokens.size() + static_cast<std::size_t>(chunk) - 1) / static_cast<std::size_t>(chunk));
      for (const Trace::Pass& pass : trace.passes) {
        for (std::size_t l = 0; l < pass.live_rows.size(); ++l) EXPECT_EQ(pass.live_rows[l], live(trace, l, pass.next));
      }
    }
  }
}

TEST(TraceTest, PerHeadLanesAreTracedEachForItself) {
  const Model model = random_model({.seed = 4, .architecture = Architecture::llama});
  const auto [trace, tokens] = evaluate(model, prune::h2o({.rows = 20, .recent = 5}), 1, 60);
  ASSERT_EQ(trace.drop_at[0].size(), static_cast<std::size_t>(model.config().n_kv_heads));
  for (const Trace::Pass& pass : trace.passes)
    for (const std::size_t rows : pass.live_rows)
      EXPECT_LE(rows, 20u * static_cast<std::size_t>(model.config().n_kv_heads));
}

TEST(TraceTest, ScoresSayWhyTheGateDropped) {
  const Model model = random_model({.seed = 2});
  const auto [trace, tokens] = evaluate(model, prune::learned_gate(), 16, 80);
  std::size_t dropped = 0;
  for (std::size_t l = 0; l < trace.drop_at.size(); ++l)
    for (std::size_t j = 0; j < tokens.size(); ++j) {
      const float score = trace.gate_score[l][0][j];
      if (trace.drop_at[l][0][j] < 0) {
        EXPECT_TRUE(std::isnan(score));
      } else {
        EXPECT_LE(score, 0.0f);
        ++dropped;
      }
    }
  EXPECT_GT(dropped, 0u);
}

TEST(TraceTest, WhatAnotherPolicyEvictsHasNoScore) {
  const Model model = random_model({.seed = 2});
  const auto [evicted, tokens] = evaluate(model, prune::h2o({.rows = 20, .recent = 5}), 1, 80);
  EXPECT_TRUE(evicted.gate_score.empty());
  const Trace both =
      evaluate(model, prune::chain(prune::learned_gate(), prune::h2o({.rows = 8, .recent = 4})), 1, 80).trace;
  std::size_t gate = 0, budget = 0;
  for (std::size_t l = 0; l < both.drop_at.size(); ++l)
    for (std::size_t h = 0; h < both.drop_at[l].size(); ++h)
      for (std::size_t j = 0; j < tokens.size(); ++j) {
        const float score = both.gate_score[l][h][j];
        if (both.drop_at[l][h][j] < 0 || std::isnan(score)) {
          EXPECT_TRUE(std::isnan(score));
          budget += both.drop_at[l][h][j] >= 0 ? 1u : 0u;
        } else {
          EXPECT_LT(score, 0.0f);
          ++gate;
        }
      }
  EXPECT_GT(gate, 0u);
  EXPECT_GT(budget, 0u);
}

TEST(TraceTest, LogprobsAndEntropiesAreThoseOfTheLogits) {
  const Model model = random_model({.seed = 6});
  const auto [trace, tokens] = evaluate(model, prune::none(), 16, 40);
  EXPECT_TRUE(std::isnan(trace.logprob[0]));
  const double most = std::log(static_cast<double>(model.config().vocab_size));
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    EXPECT_LT(trace.logprob[i], 0.0f);
    EXPECT_GT(trace.entropy[i], 0.0f);
    EXPECT_LE(trace.entropy[i], most + 1e-4);
  }
  Tracer tracer;
  const std::vector<float> uniform(8, 0.5f);
  Session session(model, tracer.attach({.threads = 1}));
  const SequenceId id = session.add(std::span(tokens).first(2));
  session.step();
  tracer.predicted(id, 1, uniform, 3);
  const Trace one = tracer.trace(session, id);
  EXPECT_NEAR(one.logprob[1], -std::log(8.0), 1e-6);
  EXPECT_NEAR(one.entropy[1], std::log(8.0), 1e-6);
}

TEST(TraceTest, LogprobsAndEntropiesAgreeWithTheFormulaInDoublePrecision) {
  const Model model = random_model({.seed = 6});
  Tracer tracer;
  Session session(model, tracer.attach({.threads = 1}));
  const SequenceId id = session.add(random_tokens(1, model.config(), 2));
  session.step();
  Random random(1);
  for (const std::size_t n : {1u, 2u, 255u, 256u, 257u, 3000u, 50257u})
    for (const float spread : {0.01f, 1.0f, 8.0f, 60.0f}) {
      SCOPED_TRACE(::testing::Message() << n << " logits, spread " << spread);
      std::vector<float> logits(n);
      for (std::size_t i = 0; i < n; ++i) logits[i] = i % 7 == 3 ? -INFINITY : 20 + spread * random.normal();
      double sum = 0, entropy = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      for (const float logit : logits)
        if (const double p = std::exp(static_cast<double>(logit)) / sum; p > 0) entropy -= p * std::log(p);
      tracer.predicted(id, 1, logits, 0);
      const Trace trace = tracer.trace(session, id);
      const double logprob = static_cast<double>(logits[0]) - std::log(sum);
      EXPECT_NEAR(trace.logprob[1], logprob, 1e-5 * (1 + std::abs(logprob)));
      EXPECT_NEAR(trace.entropy[1], entropy, 1e-5 * (1 + entropy));
    }
}

TEST(TraceTest, KeptFractionCountsWhatQueriesSee) {
  EXPECT_DOUBLE_EQ(kept_fraction(std::vector<std::int32_t>{-1, -1, -1}), 1.0);
  EXPECT_DOUBLE_EQ(kept_fraction(std::vector<std::int32_t>{1, 2, -1}), 0.5);
  EXPECT_DOUBLE_EQ(kept_fraction(std::vector<std::int32_t>{2, -1, -1}), 5.0 / 6.0);
}

// --- Counterfactuals -------------------------------------------------------------------------------------------------

TEST(CounterfactualTest, KeptTokensOutliveTheGateAndTheBudget) {
  const Model model = random_model({.seed = 2});
  for (const prune::AnyPolicy& policy : {prune::AnyPolicy(prune::learned_gate({.tau = INFINITY})),
                                         prune::AnyPolicy(prune::h2o({.rows = 6, .recent = 2}))}) {
    Session session(model, {.policy = policy, .threads = 1, .chunk = 1, .record_drops = true});
    const auto tokens = random_tokens(7, model.config(), 30);
    const SequenceId id = session.add(std::span(tokens).first(1));
    session.step();
    session.keep(id, std::vector<Position>{0});
    session.prompt(id, std::span(tokens).subspan(1));
    while (!session.idle()) session.step();
    for (const auto& layer : session.drop_at(id))
      for (const auto& lane : layer) {
        EXPECT_EQ(lane[0], -1);
        EXPECT_GT(std::ranges::count_if(lane, [](std::int32_t until) { return until >= 0; }), 10);
      }
  }
}

TEST(CounterfactualTest, KeepingATokenChangesWhatIsSaidIfItWasDropped) {
  const Model model = random_model({.seed = 2});
  Session session(model, {.policy = prune::learned_gate(), .threads = 1, .chunk = 1, .record_drops = true});
  const auto read = [&] {
    std::vector<float> logits;
    while (!session.idle())
      for (const Output& output : session.step()) logits.assign(output.logits.begin(), output.logits.end());
    return logits;
  };
  const auto tokens = random_tokens(7, model.config(), 30);
  const SequenceId whole = session.add(tokens);
  const std::vector<float> was = read();
  const auto drops = session.drop_at(whole);
  std::size_t held = 0, changed = 0;
  for (std::size_t j = 0; j + 1 < tokens.size(); ++j) {
    const SequenceId with = session.add(std::span(tokens).first(j + 1));
    read();
    session.keep(with, std::vector{static_cast<Position>(j)});
    session.prompt(with, std::span(tokens).subspan(j + 1));
    const double change = divergence(was, read());
    session.finish(with);
    const bool dropped = std::ranges::any_of(drops, [j](const auto& layer) { return layer[0][j] >= 0; });
    if (dropped) {
      changed += change > 0;
    } else {
      EXPECT_EQ(change, 0) << j;
      ++held;
    }
  }
  EXPECT_GT(held, 0u);
  EXPECT_GT(changed, 10u);
}

TEST(CounterfactualTest, ForgettingChangesWhatFollowsAndOnlyTheNamedLayer) {
  const Model model = random_model({.seed = 2});
  Session session(model, {.policy = prune::none(), .threads = 1, .record_drops = true});
  const auto tokens = random_tokens(8, model.config(), 20);
  const SequenceId whole = session.add(tokens);
  session.step();
  const SequenceId other = session.fork(whole);
  session.forget(other, 1, std::vector<Position>{3, 4, 5});
  session.push(whole, 1);
  session.push(other, 1);
  const auto outputs = session.step();
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_GT(divergence(outputs[0].logits, outputs[1].logits), 0);
  const auto drops = session.drop_at(other);
  for (std::size_t l = 0; l < drops.size(); ++l)
    for (std::size_t j = 0; j < 20; ++j)
      EXPECT_EQ(drops[l][0][j], l == 1 && j >= 3 && j <= 5 ? 20 : -1) << l << ' ' << j;
  EXPECT_EQ(error_of([&] { session.forget(whole, 99, std::vector<Position>{0}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.forget(whole, 0, std::vector<Position>{21}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.keep(whole, std::vector<Position>{-1}); }), ErrorCode::argument);
}

}  // namespace
}  // namespace pith::testing
