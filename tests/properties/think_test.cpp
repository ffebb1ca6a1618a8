// SPDX-License-Identifier: MIT
// ThinK: keys that keep some of their channels are what keys with zeros in the others are, and take less memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "pith/prune/channels.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"
#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/kv.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

using Numbers = std::vector<float>;

/// Two kv-heads in one lane, a group of two queries each.
TEST(ThinkTest, KeepsTheChannelsThatQueriesMeetMost) {
  const KvLayouts layouts{PageLayout({.heads = 2, .head_dim = 4})};
  PagePool pool(0);
  KvCache cache(layouts, pool, 1, 1, 0, DropLog::Keep::history);
  for (Position born = 0; born < 3; ++born) {
    cache.append(0, born, never);
    const Row row = cache.lanes(0)[0].row(static_cast<std::size_t>(born));
    row.set_key(0, Numbers{1, 2, 3, 4});  // mean squares 1, 4, 9, 16
    row.set_key(1, Numbers{4, 0, 1, 1});  // 16, 0, 1, 1
    row.set_value(0, Numbers{5, 6, 7, static_cast<float>(born)});
    row.set_value(1, Numbers{8, 9, 1, 2});
  }
  // Window of the last two: sums of squares of head 0 are 18, 4, 4, 1, of head 1 1, 16, 2, 3.
  const Numbers q = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,  //
                     3, 1, 0, 1, 0, 1, 0, 0, 0, 4, 1, 1, 1, 0, 0, 1,  //
                     3, 1, 2, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0};
  prune::Scratch scratch;
  prune::Moment moment{.n_layers = 1, .first = 0, .next = 3, .prompt_end = 3, .group = 2, .scratch = &scratch};
  moment.q = View<const float>(q.data(), 3, 16);
  prune::MostMetChannels{0.5f, 2}.after_attention(cache.layer(0), moment);
  // Products 18, 16, 36, 16 (of equals the first), and 16, 0, 2, 3.
  const Lane& lane = cache.lanes(0)[0];
  ASSERT_NE(lane.channels(), nullptr);
  EXPECT_TRUE(std::ranges::equal(lane.channels()->of(0), std::vector<std::uint16_t>{0, 2}));
  EXPECT_TRUE(std::ranges::equal(lane.channels()->of(1), std::vector<std::uint16_t>{0, 3}));
  EXPECT_LT(lane.layout().bytes(), layouts.kv.bytes());
  EXPECT_EQ(pool.bytes_used(), lane.layout().bytes());
  Numbers numbers(4);
  for (Position born = 0; born < 3; ++born) {
    const Row row = lane.row(static_cast<std::size_t>(born));
    row.key(0, numbers);
    EXPECT_EQ(numbers, (Numbers{1, 0, 3, 0}));
    row.key(1, numbers);
    EXPECT_EQ(numbers, (Numbers{4, 0, 0, 1}));
    row.value(0, numbers);
    EXPECT_EQ(numbers, (Numbers{5, 6, 7, static_cast<float>(born)}));
    EXPECT_EQ(row.born(), born);
    EXPECT_EQ(row.until(), never);
  }
  cache.append(0, 3, never);
  lane.row(3).set_key(1, Numbers{7, 8, 9, 10});
  lane.row(3).key(1, numbers);
  EXPECT_EQ(numbers, (Numbers{7, 0, 0, 10}));
}

TEST(ThinkTest, KeepsWholeBlocks) {
  const auto kept = [](float share, std::size_t dim, KvFormat keys) {
    return prune::MostMetChannels{share, 32}.kept(PageLayout({.keys = keys, .head_dim = dim}).shape());
  };
  EXPECT_EQ(kept(0.5f, 64, KvFormat::f32), 32u);
  EXPECT_EQ(kept(0.6f, 64, KvFormat::f16), 38u);
  EXPECT_EQ(kept(0.6f, 64, KvFormat::q8_0), 32u);
  EXPECT_EQ(kept(0.8f, 64, KvFormat::q4_0), 64u);
  EXPECT_EQ(kept(0.6f, 96, KvFormat::q4_0), 64u);
  EXPECT_EQ(kept(0, 64, KvFormat::f32), 1u);
  EXPECT_EQ(kept(0, 64, KvFormat::q8_0), 32u);
}

/// Keys stay whole, with zeros in the channels that are not listed.
struct ZeroKeys {
  const std::vector<std::vector<std::vector<std::uint16_t>>>* kept;  // [layer][kv_head]
  Position prompt;

  prune::Needs needs() const { return {}; }
  void before_attention(const KvLayer& layer, const prune::Moment& moment) const {
    if (moment.first >= prompt) zero(layer);
  }
  void after_attention(const KvLayer& layer, const prune::Moment& moment) const {
    if (moment.next == prompt) zero(layer);
  }
  void zero(const KvLayer& layer) const {
    const Lane& lane = layer.lanes()[0];
    Numbers key(lane.layout().shape().head_dim);
    for (std::size_t row = 0; row < lane.rows(); ++row)
      for (std::size_t h = 0; h < lane.layout().shape().heads; ++h) {
        lane.row(row).key(h, key);
        for (std::size_t c = 0; c < key.size(); ++c)
          if (!std::ranges::binary_search((*kept)[layer.layer()][h], c)) key[c] = 0;
        lane.row(row).set_key(h, key);
      }
  }
};

/// Notes what is kept, once it is.
struct NoteChannels {
  std::vector<std::vector<std::vector<std::uint16_t>>>* kept;

  prune::Needs needs() const { return {}; }
  void before_attention(const KvLayer& layer, const prune::Moment&) const {
    const Lane& lane = layer.lanes()[0];
    if (lane.channels() == nullptr) return;
    auto& heads = (*kept)[layer.layer()];
    heads.clear();
    for (std::size_t h = 0; h < lane.layout().shape().heads; ++h) {
      const auto of = lane.channels()->of(h);
      heads.emplace_back(of.begin(), of.end());
    }
  }
};

Fed fed_in_turns(const Model& model, std::span<const Token> tokens, std::size_t prompt, const SessionOptions& options) {
  Session session(model, options);
  Fed fed;
  const SequenceId sequence = session.add(tokens.first(prompt), Logits::all);
  step_into(session, sequence, fed.logits);
  for (const Token token : tokens.subspan(prompt)) {
    session.push(sequence, token);
    step_into(session, sequence, fed.logits);
  }
  fed.stats = session.stats(sequence);
  return fed;
}

TEST(ThinkTest, EqualsKeysWithZeros) {
  for (const Architecture architecture : {Architecture::qwen3, Architecture::gpt2, Architecture::gemma3}) {
    const Model model = random_model(
        {.seed = 21, .architecture = architecture, .head_dim = 24, .n_layers = 3, .gate = ModelSpec::Gate::no});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(21, model.config(), 90);
    constexpr std::size_t prompt = 60;
    for (const KvPair& kv : {KvPair(KvFormat::f32), KvPair(KvFormat::f16, KvFormat::f32)})
      for (const int chunk : {64, 13, 1}) {
        SCOPED_TRACE(name(kv) + ", chunks of " + std::to_string(chunk));
        std::vector<std::vector<std::vector<std::uint16_t>>> kept(3);
        const Fed thin =
            fed_in_turns(model, tokens, prompt,
                         {.policy = prune::chain(prune::think({.channels = 0.4f, .window = 20}), NoteChannels{&kept}),
                          .kv = kv,
                          .threads = 1,
                          .chunk = chunk});
        for (const auto& heads : kept) {
          ASSERT_EQ(heads.size(), static_cast<std::size_t>(model.config().n_kv_heads));
          EXPECT_EQ(heads[0].size(), 10u);
        }
        const Fed zero = fed_in_turns(
            model, tokens, prompt,
            {.policy = ZeroKeys{&kept, static_cast<Position>(prompt)}, .kv = kv, .threads = 1, .chunk = chunk});
        EXPECT_LT(relative_error(thin.logits, zero.logits), 1e-5);
        EXPECT_LT(thin.stats.bytes_used, zero.stats.bytes_used);
        EXPECT_EQ(thin.stats.bytes_dense, zero.stats.bytes_dense);
      }
  }
}

TEST(ThinkTest, IsTheSameInABatchInEveryFormatAndCombination) {
  const Model model = random_model({.seed = 23, .architecture = Architecture::qwen3, .head_dim = 64, .n_layers = 2});
  SCOPED_TRACE(describe(model));
  std::vector<Script> scripts;
  for (const std::size_t length : {1u, 40u, 7u, 33u}) {
    const auto tokens = random_tokens(length, model.config(), length + 6);
    const auto split = tokens.begin() + static_cast<std::ptrdiff_t>(length);
    scripts.push_back({{tokens.begin(), split}, {split, tokens.end()}});
  }
  for (const KvPair& kv : kv_pairs())
    for (const char* spec :
         {"think", "think(channels=0.5,window=8),h2o(rows=14,recent=4)", "snapkv(rows=20,window=8),think", "gate,think",
          "per_head(think)", "for_layers(layers=1,think)", "for_heads(heads=0,think)",
          "for_layers(layers=0,think(channels=0.25)),for_layers(layers=1,think(channels=0.75)),tova(rows=16)",
          "h2o(rows=14,recent=4,merge=1),think"}) {
      SCOPED_TRACE(name(kv) + ", " + spec);
      const SessionOptions options{.policy = prune::parse(spec), .kv = kv, .threads = 1, .chunk = 16};
      Session together(model, options);
      const auto batch = play(together, scripts, DropLog::Keep::counts);
      EXPECT_EQ(together.stats().bytes_used, 0u);
      for (std::size_t i = 0; i < scripts.size(); ++i) {
        Session alone(model, options);
        EXPECT_TRUE(same_bits(batch[i].logits, play(alone, {scripts[i]}, DropLog::Keep::counts)[0].logits)) << i;
      }
    }
}

TEST(ThinkTest, TakesTheMemoryOfTheChannelsThatAreLeft) {
  const Model model =
      random_model({.seed = 24, .head_dim = 64, .n_layers = 2, .window = 0, .gate = ModelSpec::Gate::no});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(24, model.config(), 130);
  const auto heads = static_cast<std::size_t>(model.config().n_kv_heads);
  for (const KvPair& kv : kv_pairs()) {
    SCOPED_TRACE(name(kv));
    Session session(model, {.policy = prune::think(), .kv = kv, .threads = 1, .chunk = 50});
    const SequenceId sequence = session.add(std::span(tokens).first(128));
    session.step();
    const PageLayout thin({.keys = kv.keys, .values = kv.values, .heads = heads, .head_dim = 64, .key_dim = 32});
    const PageLayout whole({.keys = kv.keys, .values = kv.values, .heads = heads, .head_dim = 64});
    EXPECT_EQ(session.stats(sequence).bytes_used, 2 * 4 * thin.bytes());
    EXPECT_EQ(session.stats(sequence).bytes_dense, 2 * 4 * whole.bytes());
    EXPECT_LE(session.stats().bytes_high_water, 2 * 4 * whole.bytes()) << "page by page";

    // A fork has the same channels and goes on alike; so does another prompt, which chooses no others.
    const SequenceId fork = session.fork(sequence);
    EXPECT_EQ(session.stats(fork).bytes_used, session.stats(sequence).bytes_used);
    for (const SequenceId id : {sequence, fork}) session.prompt(id, std::span(tokens).last(2));
    Logits2d logits;
    while (!session.idle())
      for (const Output& output : session.step()) logits.push_back(copy(output.logits));
    ASSERT_EQ(logits.size(), 2u);
    EXPECT_EQ(logits[0], logits[1]);
    EXPECT_EQ(session.stats(fork).bytes_used, 2 * 5 * thin.bytes());
    session.finish(sequence);
    session.finish(fork);
    EXPECT_EQ(session.stats().bytes_used, 0u);
  }
}

TEST(ThinkTest, KeepsWithinAByteBudget) {
  const Model model =
      random_model({.seed = 25, .head_dim = 64, .n_layers = 2, .window = 0, .gate = ModelSpec::Gate::no});
  const auto tokens = random_tokens(25, model.config(), 96);
  const PageLayout whole({.heads = static_cast<std::size_t>(model.config().n_kv_heads), .head_dim = 64});
  Session session(model,
                  {.policy = prune::think({.channels = 0.25f}), .threads = 1, .kv_budget = 2 * 3 * whole.bytes()});
  const SequenceId first = session.add(tokens);
  EXPECT_EQ(session.step().size(), 1u);
  session.push(first, tokens[0]);
  EXPECT_EQ(session.step().size(), 1u) << "what is left of the keys makes room for more";
  EXPECT_LE(session.stats().bytes_high_water, 2 * 3 * whole.bytes());
}

TEST(ThinkTest, ChoosesTheSameChannelsInAnyChunk) {
  const Model model = random_model({.seed = 26, .n_layers = 2, .gate = ModelSpec::Gate::no});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(26, model.config(), 80);
  const auto logits = [&](int chunk) {
    return fed_in_turns(model, tokens, 60, {.policy = prune::think({.window = 25}), .threads = 1, .chunk = chunk})
        .logits;
  };
  const auto whole = logits(64);
  for (const int chunk : {33, 7, 1}) EXPECT_LT(relative_error(logits(chunk), whole), 1e-5) << chunk;
}

TEST(ThinkTest, IsRefusedWhereNothingCanBeLeftOut) {
  const Model model = random_model({.seed = 27, .head_dim = 32, .n_layers = 1});
  const auto message = [&](const KvPair& kv, float channels) {
    try {
      Session session(model, {.policy = prune::think({.channels = channels}), .kv = kv, .threads = 1});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(KvFormat::f32, 0.5f), "");
  EXPECT_EQ(message({KvFormat::f16, KvFormat::q8_0}, 0.5f), "");
  EXPECT_EQ(message(KvFormat::q8_0, 1), "") << "leaves nothing out";
  for (const KvFormat keys : {KvFormat::q8_0, KvFormat::q4_0}) {
    const std::string text = message({keys, KvFormat::f32}, 0.5f);
    for (const std::string& part :
         {std::string("policy"), std::string("64"), std::string("32"), std::string(name(keys))})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_EQ(error_of([] { prune::think({.channels = 1.5f}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { prune::think({.window = 0}); }), ErrorCode::argument);
}

}  // namespace
}  // namespace pith::testing
