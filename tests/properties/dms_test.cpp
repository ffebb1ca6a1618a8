// SPDX-License-Identifier: MIT
// Checkpoints that were taught what to forget (DMS, arXiv 2506.05345): which number decides, whose row it decides, and
// that dropping rows is what a masked forward pass does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "pith/nn/decoder.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"
#include "reference/eviction.hpp"
#include "support/compare.hpp"
#include "support/decided_models.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"
#include "support/turns.hpp"

namespace pith::testing {
namespace {

using namespace prune;

// Two kv-heads of two query heads each, width 3: the numbers at 2 and 8 are no query's.
TEST(DmsTest, TheLastNumberOfAGroupsFirstHeadDecides) {
  Config config;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 3;
  config.dms = DmsConfig{};
  std::vector<float> q = {1, 2, 0.06f, 4, 5, 6, 7, 8, 0.04f, 10, 11, 12};
  std::vector<float> logits(2);
  for_each_decision(config, q, [&](std::size_t head, float& number) {
    logits[head] = config.dms->scale * number - config.dms->offset;
    number = 0;
  });
  EXPECT_NEAR(logits[0], 1, 1e-5);
  EXPECT_NEAR(logits[1], -1, 1e-5);
  EXPECT_EQ(q, (std::vector<float>{1, 2, 0, 4, 5, 6, 7, 8, 0, 10, 11, 12}));
}

/// One layer of two kv-heads, fed in passes of so many tokens; until[lane][token] in the end.
std::vector<std::vector<Position>> closed(const std::vector<std::size_t>& passes, int window,
                                          const std::vector<std::vector<float>>& logits) {
  const KvLayouts layouts{PageLayout({.heads = 1, .head_dim = 2})};
  PagePool pool(0);
  KvCache cache(layouts, pool, 1, 2, 0, DropLog::Keep::counts);
  Scratch scratch;
  Position first = 0;
  for (const std::size_t count : passes) {
    Tensor<float> pass(count, 2);
    for (std::size_t t = 0; t < count; ++t) {
      cache.append(0, first + static_cast<Position>(t), never);
      std::ranges::copy(logits[static_cast<std::size_t>(first) + t], pass[t].begin());
    }
    const Position next = first + static_cast<Position>(count);
    const Moment moment{.n_layers = 1,
                        .first = first,
                        .next = next,
                        .prompt_end = next,
                        .decisions = {pass.view(), 3},
                        .scratch = &scratch};
    dms({.window = window}).before_attention(cache.layer(0), moment);
    first = next;
  }
  std::vector<std::vector<Position>> out;
  for (const Lane& lane : cache.lanes(0)) {
    auto& all = out.emplace_back(static_cast<std::size_t>(first));
    for (std::size_t row = 0; row < lane.rows(); ++row) all[static_cast<std::size_t>(lane.born(row))] = lane.until(row);
  }
  return out;
}

TEST(DmsTest, ATokenDecidesOfTheOneBefore) {
  // Of the first kv-head token 2 drops token 1, of the second tokens 1 and 3 do 0 and 2; token 0 has none before it.
  const std::vector<std::vector<float>> logits = {{1, 1}, {-1, 1}, {0.5f, 0}, {-2, 3}};
  for (const std::vector<std::size_t>& passes :
       {std::vector<std::size_t>{4}, {1, 1, 1, 1}, {2, 2}, {1, 3}, std::vector<std::size_t>{3, 1}}) {
    const auto as_taught = closed(passes, 0, logits);
    EXPECT_EQ(as_taught[0], (std::vector<Position>{never, 1 + 3 + 1, never, never}));
    EXPECT_EQ(as_taught[1], (std::vector<Position>{0 + 3 + 1, never, 2 + 3 + 1, never}));
    EXPECT_EQ(closed(passes, 7, logits)[0][1], 1 + 7 + 1);
  }
}

/// Who sees whom, from the model's decisions in double precision.
class Decided : public reference::Visibility {
 public:
  explicit Decided(int window) : window_(window) {}

  bool sees(int layer, int kv_head, int n, int j) const override {
    if (n <= j + window_) return true;
    return logits_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(j) + 1]
                  [static_cast<std::size_t>(kv_head)] <= 0;
  }
  void decides(int layer, const reference::Rows& logits) override {
    logits_.resize(static_cast<std::size_t>(layer) + 1);
    logits_.back() = logits;
    for (const auto& token : logits)
      for (const double logit : token) margin = std::min(margin, std::abs(logit));
  }

  double margin = std::numeric_limits<double>::infinity();

 private:
  int window_;
  std::vector<reference::Rows> logits_;  // [layer]
};

struct Rounding {
  KvFormat kv = KvFormat::f32;
  double tolerance = 1e-5, margin = 1e-5;
};

void check(ModelSpec spec, int cases, const Rounding& rounding = {}) {
  const std::vector<reference::Prompt> prompts = {{0, 40}, {52, 75}};
  spec.gate = ModelSpec::Gate::no;
  spec.dms = ModelSpec::Dms::yes;
  for_decided_models(spec, {.cases = cases}, [&](const Model& model, std::uint64_t seed) {
    const auto tokens = random_tokens(seed, model.config(), 90);
    Decided decided(model.config().dms->window);
    const auto expected =
        reference::forward(model.config(), model.weights(), tokens, {.visibility = &decided, .kv = rounding.kv});
    if (decided.margin < rounding.margin || std::ranges::min(expected.min_margin) < 2e-5) return false;
    EXPECT_LT(expected.mean_kept, 0.9);
    for (const int chunk : {256, 17, 1}) {
      SCOPED_TRACE("chunks of " + std::to_string(chunk));
      // No policy was asked for: what the model was taught is what it does.
      const Fed fed = feed_turns(model, tokens, prompts, {.kv = rounding.kv, .chunk = chunk});
      EXPECT_LT(relative_error(fed.logits, expected.logits), rounding.tolerance);
      EXPECT_EQ(fed.drop_at, expected.drop_at);
    }
    return true;
  });
}

TEST(DmsTest, EvictingEqualsMasking) {
  check({.architecture = Architecture::qwen3}, 4);
  check({.architecture = Architecture::llama}, 4);
}

TEST(DmsTest, EvictingEqualsMaskingInEveryArchitecture) {
  for (const Architecture architecture : architectures()) check({.architecture = architecture}, 1);
}

TEST(DmsTest, EvictingEqualsMaskingInARoundedCache) {
  check({.architecture = Architecture::qwen3}, 2, {KvFormat::f16, 2e-3, 5e-4});
}

TEST(DmsTest, WhatIsTakenBackIsTakenBack) {
  const Model model = random_model(
      {.seed = 5, .architecture = Architecture::llama, .gate = ModelSpec::Gate::no, .dms = ModelSpec::Dms::yes});
  const auto tokens = random_tokens(5, model.config(), 60);
  const auto run = [&](bool guesses) {
    Session session(model, {.threads = 1, .record_drops = true});
    const SequenceId sequence = session.add(std::span(tokens).first(30));
    session.step();
    Logits2d logits;
    for (std::size_t t = 30; t < tokens.size(); ++t) {
      if (guesses) {
        session.mark(sequence);
        const std::vector<Token> wrong = {tokens[0], tokens[t], tokens[1]};
        session.push(sequence, wrong, Logits::all);
        while (!session.idle()) session.step();
        session.rewind(sequence, t);
        session.commit(sequence);
      }
      session.push(sequence, tokens[t]);
      step_into(session, sequence, logits);
    }
    return std::pair(logits, session.drop_at(sequence));
  };
  const auto plain = run(false), guessing = run(true);
  EXPECT_EQ(plain.first, guessing.first);
  EXPECT_EQ(plain.second, guessing.second);
}

TEST(DmsTest, IsSpelledAndRefusedByName) {
  EXPECT_EQ(parse("dms").describe(), "dms(window=0)");
  EXPECT_EQ(parse("dms(window=40)").describe(), "dms(window=40)");
  test::expect_error(ErrorCode::argument, {"dms(window=)", "-1"}, [] { parse("dms(window=-1)"); });
  const Model other = random_model({.seed = 2, .n_layers = 2});
  test::expect_error(ErrorCode::unsupported, {"policy", "taught", "DMS"}, [&] { Session(other, {.policy = dms()}); });
  const Model taught = random_model({.seed = 2,
                                     .architecture = Architecture::llama,
                                     .n_layers = 4,
                                     .gate = ModelSpec::Gate::no,
                                     .dms = ModelSpec::Dms::yes});
  test::expect_error(ErrorCode::unsupported, {"decisions", "between layers"},
                     [&] { Session(taught, {.policy = chain(dms(), fastkv())}); });
  EXPECT_EQ(Session(taught).policy().describe(), "dms(window=0)");
}

}  // namespace
}  // namespace pith::testing
