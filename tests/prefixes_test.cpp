// SPDX-License-Identifier: MIT
// Requests that begin alike: rows are read once, and nobody can tell but by the time it takes; and conversations that
// outlive their generator.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "pith/generator.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr std::size_t chunk = 16, shared = 70;
constexpr PrefixOptions plenty{.bytes = std::size_t{1} << 30};

Model small_model() {
  return random_model({.seed = 31, .architecture = Architecture::qwen3, .n_layers = 2, .context = 512});
}

SessionOptions options_for(const prune::AnyPolicy& policy) {
  return {.policy = policy, .threads = 1, .chunk = static_cast<int>(chunk)};
}

/// Prompts that have their first `shared` tokens in common, and part there.
std::vector<Request> questions(const Model& model, std::size_t count) {
  const auto beginning = random_tokens(1, model.config(), shared);
  std::vector<Request> all;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<Token> prompt = beginning;
    prompt.push_back(static_cast<Token>(i));
    const auto rest = random_tokens(2 + i, model.config(), 30 + 9 * i);
    prompt.insert(prompt.end(), rest.begin(), rest.end());
    all.push_back({.prompt = std::move(prompt), .max_tokens = 6, .ends = std::vector<Token>{}});
  }
  return all;
}

enum class Order { one_by_one, together };

/// [request][token] logits.
std::vector<Logits2d> run(Generator& generator, std::vector<Request> requests, Order order) {
  std::vector<Logits2d> all(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].on_piece = [&all, i](const Piece& piece) { all[i].push_back(copy(piece.logits)); };
    generator.submit(std::move(requests[i]));
    if (order == Order::one_by_one) generator.run();
  }
  generator.run();
  return all;
}

void expect_same(const std::vector<Logits2d>& a, const std::vector<Logits2d>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].size(), 6u);
    EXPECT_TRUE(same_bits(a[i], b[i])) << "request " << i;
  }
}

TEST(PrefixesTest, AreReadOnceWherePoliciesLookBackAlone) {
  const Model model = small_model();
  for (const char* spec : {"none", "gate", "streaming(sinks=2,recent=30)", "gate(tau=0.3),streaming(sinks=2,recent=40)",
                           "per_head(gate)", "for_layers(layers=0-0,streaming(sinks=1,recent=20))"})
    for (const Order order : {Order::one_by_one, Order::together}) {
      SCOPED_TRACE(spec);
      const auto options = options_for(prune::parse(spec));
      auto ahead = options;  // what is to be kept may end within a pass of several chunks
      ahead.ahead = 3 * static_cast<int>(chunk);
      Generator plain(model, {}, options), keeping(model, {}, ahead, 16, plenty);
      const auto requests = questions(model, 5);
      expect_same(run(keeping, requests, order), run(plain, requests, order));
      const PrefixStats stats = keeping.prefixes();
      EXPECT_EQ(stats.prompts, 5u);
      // The first prompt leaves what only it has, the second what both have.
      const std::size_t missed = order == Order::together ? 1 : 2;
      EXPECT_EQ(stats.hits, 5 - missed);
      EXPECT_EQ(stats.not_kept, missed);
      EXPECT_EQ(stats.tokens_reused, (5 - missed) * (shared / chunk * chunk));
      EXPECT_GT(stats.bytes, 0u);
      EXPECT_EQ(plain.prefixes().prompts, 0u);
    }
}

TEST(PrefixesTest, WhatWasForgottenOfThemIsKnown) {
  const Model model = small_model();
  for (const char* spec : {"gate(tau=0.3)", "streaming(sinks=2,recent=30)", "snapkv(rows=40)"}) {
    SCOPED_TRACE(spec);
    auto options = options_for(prune::parse(spec));
    options.record_drops = true;
    Generator plain(model, {}, options), keeping(model, {}, options, 16, plenty);
    std::vector<std::vector<std::uint32_t>> gone;
    std::vector<std::size_t> reused;
    for (Generator* const generator : {&plain, &keeping})
      for (Request& request : questions(model, 3)) {
        request.prefix = shared;
        request.on_piece = [&, generator](const Piece& piece) {
          if (!piece.finish) return;
          gone.push_back(generator->session().rows_gone(*piece.sequence));
          reused.push_back(piece.reused);
          EXPECT_EQ(std::accumulate(gone.back().begin(), gone.back().end(), std::uint64_t{0}),
                    generator->session().stats(*piece.sequence).dropped_rows);
        };
        generator->submit(std::move(request));
        generator->run();
      }
    ASSERT_EQ(gone.size(), 6u);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(gone[i], gone[i + 3]);
    EXPECT_GT(std::accumulate(gone[1].begin(), gone[1].begin() + shared, 0u), 0u);
    EXPECT_EQ(reused, (std::vector<std::size_t>{0, 0, 0, 0, shared, shared}));
  }
}

TEST(PrefixesTest, OthersAreNotAndStatsSayWhy) {
  const Model model = small_model();
  for (const char* spec : {"h2o(rows=24,recent=9)", "snapkv(rows=40)", "on_prefill(gate)"}) {
    SCOPED_TRACE(spec);
    Generator keeping(model, {}, options_for(prune::parse(spec)), 16, plenty);
    run(keeping, questions(model, 3), Order::one_by_one);
    EXPECT_EQ(keeping.prefixes().policy_looks_ahead, 3u);
    EXPECT_EQ(keeping.prefixes().hits, 0u);
    EXPECT_EQ(keeping.prefixes().kept, 0u);
  }
  Generator keeping(model, {}, options_for(prune::none()), 16, plenty);
  auto requests = questions(model, 4);
  requests[1].on_prompt = [](SequenceId, std::size_t, std::span<const float>) {};
  requests[2].anchors = {.end = 3, .tokens = {1}};
  requests[3].pinned = 2;
  run(keeping, requests, Order::one_by_one);
  EXPECT_EQ(keeping.prefixes().read_whole, 2u);
  EXPECT_EQ(keeping.prefixes().not_kept, 2u) << "what is pinned is something else";
  EXPECT_EQ(keeping.prefixes().hits, 0u);
}

TEST(PrefixesTest, ThatAreNamedAreReadOnceUnderEveryPolicy) {
  const Model model = small_model();
  auto requests = questions(model, 3);
  for (Request& request : requests) request.prefix = shared;
  for (const PolicyCase& one : policy_cases(model.config()))
    for (const Order order : {Order::one_by_one, Order::together}) {
      SCOPED_TRACE(one.name);
      const auto options = options_for(one.policy);
      Generator plain(model, {}, options), keeping(model, {}, options, 16, plenty);
      expect_same(run(keeping, requests, order), run(plain, requests, order));
      EXPECT_EQ(keeping.prefixes().hits, 2u);
      EXPECT_EQ(keeping.prefixes().tokens_reused, 2 * shared);
      EXPECT_EQ(keeping.prefixes().kept, 1u);
    }
}

TEST(PrefixesTest, AreNotReusedForAnotherStrength) {
  const Model model = small_model();
  Generator plain(model, {}, options_for(prune::learned_gate())),
      keeping(model, {}, options_for(prune::learned_gate()), 16, plenty);
  auto requests = questions(model, 4);
  requests[1].tau = requests[3].tau = 0.7f;
  for (Request& request : requests) request.prefix = shared;
  expect_same(run(keeping, requests, Order::one_by_one), run(plain, requests, Order::one_by_one));
  EXPECT_EQ(keeping.prefixes().hits, 2u);
  EXPECT_EQ(keeping.prefixes().kept, 2u);
}

TEST(PrefixesTest, KeepToTheirBytes) {
  const Model model = small_model();
  const auto requests = questions(model, 3);
  Generator none(model, {}, options_for(prune::none()), 16, {.bytes = 64});
  run(none, requests, Order::one_by_one);
  EXPECT_EQ(none.prefixes().kept, 0u);
  EXPECT_EQ(none.prefixes().hits, 0u);
  EXPECT_GT(none.prefixes().dropped, 0u);
  EXPECT_EQ(none.session().stats().bytes_used, 0u);

  // Room for one of two beginnings: the one that was used last stays.
  Generator probe(model, {}, options_for(prune::none()), 16, plenty);
  auto named = questions(model, 2);
  for (Request& request : named) request.prefix = shared;
  run(probe, named, Order::one_by_one);
  Generator one(model, {}, options_for(prune::none()), 16, {.bytes = probe.prefixes().bytes * 3 / 2});
  run(one, named, Order::one_by_one);
  std::get<std::vector<Token>>(named[0].prompt)[0] ^= 1;
  run(one, {named[0]}, Order::one_by_one);
  EXPECT_EQ(one.prefixes().kept, 1u);
  EXPECT_EQ(one.prefixes().dropped, 1u);
  EXPECT_LE(one.prefixes().bytes, probe.prefixes().bytes * 3 / 2);
}

TEST(PrefixesTest, AreToldFromWhatRequestsHold) {
  const Model model = small_model();
  Generator keeping(model, {}, options_for(prune::none()), 16, plenty);
  const auto rows = [](const CacheStats& stats) {
    return std::accumulate(stats.live_rows.begin(), stats.live_rows.end(), std::size_t{0});
  };
  auto requests = questions(model, 2);
  for (Request& request : requests) request.prefix = 64;
  keeping.submit(requests[0]);
  keeping.submit(requests[1]);
  std::size_t most = 0;
  while (keeping.step()) {
    const Load now = keeping.load();
    EXPECT_EQ(now.kept.bytes_used, now.prefixes.bytes);
    most = std::max(most, rows(now.cache) - rows(now.kept));
  }
  EXPECT_GT(most, 2 * 64u);
  const Load idle = keeping.load();
  EXPECT_EQ(idle.prefixes.kept, 1u);
  EXPECT_EQ(rows(idle.kept), 64 * keeping.session().model().config().layers.size());
  EXPECT_EQ(rows(idle.cache), rows(idle.kept)) << "requests hold nothing any more";
  EXPECT_EQ(idle.cache.bytes_used, idle.kept.bytes_used);
  keeping.drop_prefixes();
  EXPECT_EQ(keeping.load().cache.bytes_used, 0u);
  EXPECT_EQ(keeping.load().prefixes.kept, 0u);
  EXPECT_EQ(keeping.load().prefixes.hits, 1u);
}

TEST(PrefixesTest, GiveWayUnderAByteBudget) {
  const Model model = small_model();
  auto options = options_for(prune::none());
  Generator free(model, {}, options);
  const auto requests = questions(model, 4);
  const auto expected = run(free, requests, Order::one_by_one);
  options.kv_budget = free.session().stats().bytes_high_water + free.session().stats().bytes_high_water / 4;
  Generator plain(model, {}, options), keeping(model, {}, options, 16, plenty);
  expect_same(run(keeping, requests, Order::together), run(plain, requests, Order::together));
  EXPECT_LE(keeping.session().stats().bytes_high_water, options.kv_budget);
}

TEST(PrefixesTest, MakeForksThatShareWhatTheyHold) {
  const Model model = small_model();
  Generator keeping(model, {}, options_for(prune::none()), 16, plenty);
  auto requests = questions(model, 2);
  for (Request& request : requests) request.prefix = 64;  // whole pages
  run(keeping, {requests[0]}, Order::one_by_one);
  std::optional<CacheStats> stats;
  requests[1].on_piece = [&](const Piece& piece) {
    if (piece.sequence) stats = keeping.session().stats(*piece.sequence);
  };
  keeping.submit(requests[1]);
  keeping.run();
  ASSERT_TRUE(stats);
  EXPECT_EQ(stats->bytes_shared, keeping.prefixes().bytes);
}

// --- Conversations
// -----------------------------------------------------------------------------------------------------

TEST(PrefixesTest, ConversationsOutliveTheirGenerator) {
  const Model model = small_model();
  const test::TempFolder folder;
  const auto file = folder.path() / "conversation";
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    const auto requests = questions(model, 3);
    Generator first(model, {}, options_for(one.policy)), second(model, {}, options_for(one.policy));
    const auto say = [&](Generator& generator, ConversationId conversation, std::size_t i) {
      Request request = requests[i];
      request.conversation = conversation;
      return run(generator, {request}, Order::one_by_one)[0];
    };
    const ConversationId here = first.open();
    EXPECT_EQ(error_of([&] { first.save(here, file); }), ErrorCode::state);
    say(first, here, 0);
    say(first, here, 1);
    first.save(here, file, "of the caller's");
    const auto [there, note] = second.restore(file);
    EXPECT_EQ(note, "of the caller's");
    EXPECT_EQ(second.length(there), first.length(here));
    EXPECT_TRUE(same_bits(say(second, there, 2), say(first, here, 2)));
    second.close(there);
    second.step();
    EXPECT_EQ(second.session().stats().bytes_used, 0u);
  }
  Generator other(model, {}, options_for(prune::none()));
  EXPECT_EQ(error_of([&] { other.restore(file); }), ErrorCode::unsupported);
  Session session(model, options_for(prune::none()));
  const SequenceId sequence = session.add(random_tokens(1, model.config(), 5));
  session.step();
  session.save(sequence, file);
  EXPECT_EQ(error_of([&] { other.restore(file); }), ErrorCode::format) << "it is no conversation";
  EXPECT_EQ(other.session().stats().bytes_used, 0u);
}

/// Behind a full context one more token is chosen, which the sequence is not given.
TEST(PrefixesTest, AConversationThatFillsItsContextIsSavedAndRestored) {
  const Model model = small_model();
  const test::TempFolder folder;
  const auto file = folder.path() / "conversation";
  const auto context = static_cast<std::size_t>(model.config().context);
  for (const std::size_t first : {std::size_t{0}, std::size_t{30}}) {
    SCOPED_TRACE(first);
    Generator generator(model, {}, options_for(prune::none()));
    const ConversationId talk = generator.open();
    std::optional<Finish> finish;
    const auto say = [&](ConversationId conversation, std::size_t prompt) {
      generator.submit({.prompt = random_tokens(prompt, model.config(), prompt),
                        .max_tokens = 1,
                        .ends = std::vector<Token>{},
                        .conversation = conversation,
                        .on_piece = [&](const Piece& piece) { finish = piece.finish; }});
      generator.run();
    };
    if (first > 0) say(talk, first);
    say(talk, context - generator.length(talk));
    EXPECT_TRUE(finish == Finish::length || finish == Finish::context);
    EXPECT_EQ(generator.length(talk), context + 1);
    generator.save(talk, file, "full");
    const auto [again, note] = generator.restore(file);
    EXPECT_EQ(note, "full");
    EXPECT_EQ(generator.length(again), context + 1);
    for (const ConversationId one : {talk, again})
      EXPECT_EQ(error_of([&] { say(one, 1); }), ErrorCode::argument) << "there is no room for another token";
  }
}

}  // namespace
}  // namespace pith::testing
