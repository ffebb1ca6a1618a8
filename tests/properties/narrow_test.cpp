// SPDX-License-Identifier: MIT
// Tokens of a prompt that leave between layers: which, whatever the chunk, and that no other sequence can tell.
#include "pith/prune/narrow.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"
#include "reference/decoder.hpp"
#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr prune::BudgetOptions no_sinks = {.sinks = 0};

TEST(NarrowTest, TheBestStayAndWhatIsSpared) {
  constexpr float spared = std::numeric_limits<float>::infinity();
  const float worth[] = {5, 1, 4, 0, 3, 2, 6, 0, spared, spared};
  std::vector<Position> stay = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  prune::keep_best(worth, 4, stay);
  EXPECT_EQ(stay, (std::vector<Position>{0, 6, 8, 9}));
  prune::keep_best(worth, 1, stay);  // what is spared alone is more
  EXPECT_EQ(stay, (std::vector<Position>{8, 9}));
  stay = {3, 7};  // of equal ones the later
  prune::keep_best(worth, 1, stay);
  EXPECT_EQ(stay, (std::vector<Position>{7}));
}

TEST(NarrowTest, FewerGoOnFromLayerToLayer) {
  const prune::AfterEach each{.share = 0.9f, .window = 21, .least = 64};
  const prune::Moment moment{.n_layers = 4, .next = 100, .prompt_end = 100};
  EXPECT_EQ(each.at(0, moment, 79 + 21), 79u + 21u);
  EXPECT_EQ(each.at(1, moment, 79 + 21), 77u + 21u);
  EXPECT_EQ(each.at(2, moment, 77 + 21), 73u + 21u);
  EXPECT_EQ(each.at(3, moment, 66 + 21), 66u + 21u);  // there would be too few
  EXPECT_EQ(each.at(1, moment, 20), 20u);
}

/// FastKV that keeps whatever rows there are, so that narrowing is seen alone.
prune::AnyPolicy narrowing(int tokens, int layer, prune::BudgetOptions b = no_sinks) {
  return prune::fastkv({.rows = 1000, .window = 6, .pool = 3, .tokens = tokens, .layer = layer}, b);
}

struct Read {
  Logits2d logits;  // after the prompt, and after each token that follows
  DropAt drop_at;
  CacheStats stats;  // after the prompt
};

Read read(const Model& model, const SessionOptions& options, std::span<const Token> tokens, std::size_t prompt) {
  Session session(model, options);
  const SequenceId sequence = session.add(tokens.first(prompt));
  Read read;
  step_into(session, sequence, read.logits);
  read.stats = session.stats(sequence);
  EXPECT_EQ(session.length(sequence), prompt);
  for (const Token token : tokens.subspan(prompt)) {
    session.push(sequence, token);
    step_into(session, sequence, read.logits);
  }
  read.drop_at = session.drop_at(sequence);
  session.finish(sequence);
  EXPECT_EQ(session.stats().bytes_used, 0u);
  return read;
}

SessionOptions recorded(prune::AnyPolicy policy, int chunk, KvFormat kv = KvFormat::f32) {
  return {.policy = std::move(policy), .kv = kv, .threads = 1, .chunk = chunk, .record_drops = true};
}

TEST(NarrowTest, LaterLayersHoldWhatGoesOnWhateverTheChunk) {
  for (const Architecture architecture : architectures()) {
    const Model model = random_model({.seed = 51, .architecture = architecture, .n_layers = 4, .window = 0});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(1, model.config(), 80);
    const auto lanes = static_cast<std::size_t>(model.config().n_kv_heads);
    const Read expected = read(model, recorded(narrowing(25, 1), 100), tokens, 70);
    EXPECT_EQ(expected.stats.live_rows, (std::vector<std::size_t>{70 * lanes, 70 * lanes, 25 * lanes, 25 * lanes}));
    for (std::size_t j = 0; j < 70; ++j) {
      EXPECT_EQ(expected.drop_at[1][0][j], -1);
      EXPECT_TRUE(expected.drop_at[2][0][j] == -1 || expected.drop_at[2][0][j] == static_cast<int>(j));
    }
    for (const int chunk : {1, 3, 16}) {
      SCOPED_TRACE("chunks of " + std::to_string(chunk));
      const Read other = read(model, recorded(narrowing(25, 1), chunk), tokens, 70);
      EXPECT_LT(relative_error(other.logits, expected.logits), 1e-5);
      EXPECT_EQ(other.drop_at, expected.drop_at);
    }
  }
}

/// In layers from `first` on nobody sees the tokens that are not there but themselves, whom nobody asks.
class Narrowed final : public reference::Visibility {
 public:
  Narrowed(int first, const std::vector<int>& drop_at) : first_(first), drop_at_(drop_at) {}
  bool sees(int layer, int, int n, int j) const override {
    return layer < first_ || j == n || j >= static_cast<int>(drop_at_.size()) ||
           drop_at_[static_cast<std::size_t>(j)] < 0;
  }
  void attended(int, int, const reference::Rows&) override {}

 private:
  int first_;
  const std::vector<int>& drop_at_;
};

TEST(NarrowTest, EqualsAMaskedForwardPass) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    const Model model = random_model({.seed = seed, .n_layers = 3, .window = 0, .gate = ModelSpec::Gate::no});
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(model));
    const auto tokens = random_tokens(seed, model.config(), 70);
    const Read narrowed = read(model, recorded(narrowing(20, 1), 16), tokens, 60);
    Narrowed mask(2, narrowed.drop_at[2][0]);
    auto expected = reference::forward(model.config(), model.weights(), tokens, {.visibility = &mask}).logits;
    expected.erase(expected.begin(), expected.begin() + 59);
    EXPECT_LT(relative_error(narrowed.logits, expected), 1e-5);
  }
}

TEST(NarrowTest, AfterEveryLayerWhateverTheChunk) {
  const prune::AnyPolicy policy = prune::pyramidinfer({.share = 0.4f, .window = 8, .least = 10});
  for (const Architecture architecture : architectures()) {
    const Model model = random_model({.seed = 61, .architecture = architecture, .n_layers = 4, .window = 0});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(9, model.config(), 80);
    const Read expected = read(model, recorded(policy, 100), tokens, 70);
    // 62 before the window: all, then 0.912, then 0.7 of what there is.
    EXPECT_EQ(expected.stats.live_rows, (std::vector<std::size_t>{70, 70, 64, 47}));
    for (const int chunk : {1, 9}) {
      const Read other = read(model, recorded(policy, chunk), tokens, 70);
      EXPECT_LT(relative_error(other.logits, expected.logits), 1e-5);
      EXPECT_EQ(other.drop_at, expected.drop_at);
    }
  }
}

TEST(NarrowTest, OfAllTokensIsSnapKv) {
  const Model model = random_model({.seed = 52, .architecture = Architecture::llama, .n_layers = 4});
  const auto tokens = random_tokens(2, model.config(), 80);
  for (const KvFormat kv : {KvFormat::f32, KvFormat::f16}) {
    const Read fast =
        read(model, recorded(prune::fastkv({.rows = 20, .window = 6, .pool = 3, .tokens = 70}), 16, kv), tokens, 70);
    const Read snap =
        read(model, recorded(prune::snapkv({.rows = 20, .window = 6, .pool = 3, .average = 1}), 16, kv), tokens, 70);
    EXPECT_TRUE(same_bits(fast.logits, snap.logits));
    EXPECT_EQ(fast.drop_at, snap.drop_at);
  }
}

TEST(NarrowTest, RowsAreCutInLaterLayersToo) {
  const Model model = random_model({.seed = 53, .architecture = Architecture::llama, .n_layers = 4});
  const auto tokens = random_tokens(3, model.config(), 75);
  const auto lanes = static_cast<std::size_t>(model.config().n_kv_heads);
  const auto held = [&](const prune::AnyPolicy& policy) {
    return read(model, recorded(policy, 16), tokens, 70).stats.live_rows;
  };
  EXPECT_EQ(held(prune::fastkv({.rows = 20, .window = 6, .pool = 3, .tokens = 30})),
            std::vector<std::size_t>(4, 20 * lanes));
  // Where fewer go on than may stay, they stay; shares are of the prompt; the middle layer is the one before half.
  EXPECT_EQ(held(prune::fastkv({.rows = 40, .window = 6, .pool = 3, .tokens_share = 0.5f})),
            (std::vector<std::size_t>{40 * lanes, 40 * lanes, 35 * lanes, 35 * lanes}));
}

TEST(NarrowTest, SinksAndPinnedTokensGoOn) {
  const Model model = random_model({.seed = 54, .architecture = Architecture::llama, .n_layers = 4});
  const auto tokens = random_tokens(4, model.config(), 70);
  Session session(model, recorded(narrowing(15, 0, {.sinks = 3}), 16));
  const SequenceId sequence = session.add(tokens);
  const Position pinned[] = {20, 21, 40};
  session.keep(sequence, pinned);
  session.step();
  const auto drop_at = session.drop_at(sequence);
  for (const std::size_t j : {0u, 1u, 2u, 20u, 21u, 40u, 64u, 69u}) EXPECT_EQ(drop_at[3][0][j], -1) << j;
  EXPECT_EQ(std::ranges::count(drop_at[3][0], -1), 15);
}

TEST(NarrowTest, WhereAllLogitsAreWantedAllTokensGoOn) {
  const Model model = random_model({.seed = 55, .architecture = Architecture::llama, .n_layers = 4});
  const auto tokens = random_tokens(5, model.config(), 60);
  const Fed fed = feed(model, tokens, {16}, {.policy = narrowing(15, 1)});
  EXPECT_EQ(fed.logits.size(), tokens.size());
  EXPECT_EQ(fed.stats.dropped_rows, 0u);
}

TEST(NarrowTest, EachPromptOfAConversationIsReadInStages) {
  const Model model = random_model({.seed = 56, .architecture = Architecture::llama, .n_layers = 4});
  const auto tokens = random_tokens(6, model.config(), 110);
  const auto lanes = static_cast<std::size_t>(model.config().n_kv_heads);
  std::vector<DropAt> drops;
  for (const int chunk : {7, 100}) {
    Session session(model, recorded(narrowing(15, 1), chunk));
    const SequenceId sequence = session.add(std::span(tokens).first(50));
    session.prompt(sequence, std::span(tokens).subspan(50, 40));  // while the first is pending
    while (!session.idle()) session.step();
    session.push(sequence, tokens[90]);
    session.step();
    session.prompt(sequence, std::span(tokens).subspan(91, 10));  // fewer than may go on
    session.step();
    drops.push_back(session.drop_at(sequence));
    EXPECT_EQ(session.stats(sequence).live_rows,
              (std::vector<std::size_t>{101 * lanes, 101 * lanes, 41 * lanes, 41 * lanes}));
    for (int j = 0; j < 50; ++j) EXPECT_LT(drops.back()[2][0][static_cast<std::size_t>(j)], 50);
  }
  EXPECT_EQ(drops[0], drops[1]);
}

TEST(NarrowTest, InABatchIsWhatItIsAlone) {
  const Model model = random_model({.seed = 57, .architecture = Architecture::llama, .n_layers = 4});
  std::vector<Script> scripts;
  for (const std::size_t prompt : {40u, 1u, 90u, 33u, 16u, 60u}) {
    const auto tokens = random_tokens(prompt, model.config(), prompt + 12);
    const auto split = tokens.begin() + static_cast<std::ptrdiff_t>(prompt);
    scripts.push_back({{tokens.begin(), split}, {split, tokens.end()}});
  }
  for (const int threads : {1, 2}) {
    SessionOptions options = recorded(prune::fastkv({.rows = 18, .window = 6, .pool = 3, .tokens = 25}), 16);
    options.threads = threads;
    Session together(model, options);
    const auto batch = play(together, scripts, DropLog::Keep::history);
    EXPECT_EQ(together.stats().bytes_used, 0u);
    for (std::size_t i = 0; i < scripts.size(); ++i) {
      Session alone(model, options);
      const Played single = play(alone, {scripts[i]}, DropLog::Keep::history)[0];
      EXPECT_TRUE(same_bits(batch[i].logits, single.logits)) << i;
      EXPECT_EQ(batch[i].drop_at, single.drop_at) << i;
    }
  }
}

TEST(NarrowTest, CanBeForkedStoppedAndTakenBackOnTheWay) {
  const Model model = random_model({.seed = 58, .architecture = Architecture::llama, .n_layers = 4});
  const auto tokens = random_tokens(7, model.config(), 80);
  const SessionOptions options = recorded(narrowing(20, 1), 16);
  const Read expected = read(model, options, tokens, 70);

  Session session(model, options);
  SequenceId sequence = session.add(std::span(tokens).first(1));
  session.step();
  session.finish(sequence);
  std::size_t passes = 0;
  std::map<SequenceId, std::size_t> told;
  SessionOptions listening = options;
  listening.on_prefill = [&](const Progress& progress) {
    EXPECT_EQ(progress.total, 70u);
    EXPECT_GE(progress.done, told[progress.sequence]);
    told[progress.sequence] = progress.done;
  };
  Session other(model, listening);
  sequence = other.add(std::span(tokens).first(70));
  std::vector<SequenceId> forks;
  while (!other.idle()) {
    if (!other.pass().empty()) break;
    if (++passes == 2 || passes == 6) forks.push_back(other.fork(sequence));  // in the first stage, in the second
    if (passes == 6) break;
  }
  EXPECT_EQ(passes, 6u);
  other.finish(sequence);
  std::map<SequenceId, Logits2d> logits;
  for (std::size_t i = 70; i <= tokens.size(); ++i) {
    while (!other.idle())
      for (const Output& output : other.step()) logits[output.sequence].push_back(copy(output.logits));
    for (const SequenceId fork : forks)
      if (i < tokens.size()) other.push(fork, tokens[i]);
  }
  for (const SequenceId fork : forks) {
    EXPECT_EQ(told[fork], 70u);
    EXPECT_TRUE(same_bits(logits[fork], expected.logits));
    EXPECT_EQ(other.drop_at(fork), expected.drop_at);
  }

  sequence = session.add(std::span(tokens).first(70));
  while (!session.idle()) session.step();
  session.mark(sequence);
  session.prompt(sequence, std::span(tokens).first(60));
  for (int i = 0; i < 5; ++i) session.pass();
  session.rewind(sequence, 70);
  session.prompt(sequence, std::span(tokens).first(60));
  while (!session.idle()) session.step();
  session.rewind(sequence, 70);
  session.commit(sequence);
  Logits2d after(1);
  after[0] = expected.logits[0];
  for (const Token token : std::span(tokens).subspan(70)) {
    session.push(sequence, token);
    step_into(session, sequence, after);
  }
  EXPECT_TRUE(same_bits(after, expected.logits));
  EXPECT_EQ(session.drop_at(sequence), expected.drop_at);
}

TEST(NarrowTest, CombinatorsThatLeaveSomethingWholeDoNotNarrow) {
  const Model model = random_model({.seed = 59, .architecture = Architecture::llama, .n_layers = 4});
  const auto tokens = random_tokens(8, model.config(), 60);
  const auto dropped = [&](const prune::AnyPolicy& policy) {
    return read(model, recorded(policy, 16), tokens, 60).stats.dropped_rows;
  };
  EXPECT_GT(dropped(prune::on_prefill(narrowing(20, 1))), 0u);
  EXPECT_GT(dropped(prune::for_layers(1, 4, narrowing(20, 1))), 0u);
  EXPECT_EQ(dropped(prune::for_layers(2, 4, narrowing(20, 1))), 0u);
  EXPECT_EQ(dropped(prune::for_layers(0, 3, narrowing(20, 1))), 0u);
  EXPECT_EQ(dropped(prune::for_heads({0}, narrowing(20, 1))), 0u);
  EXPECT_EQ(dropped(narrowing(20, 3)), 0u);  // after the last layer there is nothing to save
}

TEST(NarrowTest, IsRefusedByName) {
  const Model model = random_model({.seed = 60, .n_layers = 2});
  EXPECT_EQ(error_of([&] { Session(model, {.policy = narrowing(20, 2)}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { Session(model, {.policy = prune::chain(prune::learned_gate(), narrowing(20, 0))}); }),
            ErrorCode::unsupported);
  EXPECT_EQ(error_of([] { prune::fastkv({.tokens = 5}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { prune::fastkv({.rows = 5}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { prune::fastkv({.pool = 2}); }), ErrorCode::argument);
  EXPECT_EQ(prune::parse("fastkv(rows=64,tokens=256,layer=3)").describe(),
            prune::fastkv({.rows = 64, .tokens = 256, .layer = 3}).describe());
}

}  // namespace
}  // namespace pith::testing
