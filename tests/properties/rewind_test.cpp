// SPDX-License-Identifier: MIT
// What a marked sequence was fed can be taken back: it is then, bit by bit, what it was, whatever its policy did.
#include <gtest/gtest.h>

#include <functional>

#include "pith/prune/methods.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr std::size_t prompt = 40, before = 6, ahead = 9, after = 8;

std::vector<float> push(Session& session, SequenceId sequence, Token token) {
  session.push(sequence, token);
  return copy(session.step().front().logits);
}

struct Ended {
  Logits2d logits;
  DropAt drop_at;
  std::vector<std::size_t> live_rows;
  std::uint64_t dropped = 0;
};

/// A prompt and tokens one by one; before token `at` of those the sequence goes astray, and is taken back.
Ended run(const Model& model, const SessionOptions& options, std::span<const Token> tokens, std::size_t at,
          const std::function<void(Session&, SequenceId)>& astray) {
  Session session(model, options);
  const SequenceId sequence = session.add(tokens.first(prompt));
  Ended ended;
  ended.logits.push_back(copy(session.step().front().logits));
  for (std::size_t i = prompt; i < tokens.size(); ++i) {
    if (i == prompt + at) astray(session, sequence);
    EXPECT_EQ(session.length(sequence), i);
    ended.logits.push_back(push(session, sequence, tokens[i]));
  }
  ended.drop_at = session.drop_at(sequence);
  ended.live_rows = session.stats(sequence).live_rows;
  ended.dropped = session.stats(sequence).dropped_rows;
  session.finish(sequence);
  EXPECT_EQ(session.stats().bytes_used, 0u);
  return ended;
}

void expect_same(const Ended& a, const Ended& b) {
  EXPECT_TRUE(same_bits(a.logits, b.logits));
  EXPECT_EQ(a.drop_at, b.drop_at);
  EXPECT_EQ(a.live_rows, b.live_rows);
  EXPECT_EQ(a.dropped, b.dropped);
}

void check(const Model& model, const SessionOptions& options) {
  const auto tokens = random_tokens(3, model.config(), prompt + before + after);
  const auto others = random_tokens(4, model.config(), 30);
  const auto expected = run(model, options, tokens, before, [](Session&, SequenceId) {});
  {
    SCOPED_TRACE("guesses, of which none is right");
    expect_same(expected, run(model, options, tokens, before, [&](Session& session, SequenceId sequence) {
                  const std::size_t length = session.length(sequence);
                  session.mark(sequence);
                  session.push(sequence, std::span(others).first(ahead), Logits::all);
                  while (!session.idle()) session.step();
                  session.rewind(sequence, length);
                  session.commit(sequence);
                }));
  }
  {
    SCOPED_TRACE("taken back to every length on the way, twice");
    expect_same(expected, run(model, options, tokens, before, [&](Session& session, SequenceId sequence) {
                  const std::size_t length = session.length(sequence);
                  session.mark(sequence);
                  for (int twice = 0; twice < 2; ++twice) {
                    session.push(sequence, std::span(others).first(ahead), Logits::none);
                    while (!session.idle()) session.step();
                    for (std::size_t left = ahead; left-- > 0;) session.rewind(sequence, length + left);
                  }
                  session.commit(sequence);
                }));
  }
  {
    SCOPED_TRACE("a prompt of several chunks, and what was decoded behind it");
    expect_same(expected, run(model, options, tokens, before, [&](Session& session, SequenceId sequence) {
                  const std::size_t length = session.length(sequence);
                  session.mark(sequence);
                  session.prompt(sequence, others);
                  session.step();
                  push(session, sequence, others[0]);
                  session.rewind(sequence, length + others.size());
                  session.rewind(sequence, length);
                  session.commit(sequence);
                }));
  }
}

SessionOptions recorded(const prune::AnyPolicy& policy, KvFormat kv = KvFormat::f32) {
  return {.policy = policy, .kv = kv, .threads = 1, .chunk = 16, .record_drops = true};
}

TEST(RewindTest, IsExactUnderEveryPolicyInEveryFormat) {
  const Model model = random_model({.seed = 31, .architecture = Architecture::qwen3, .head_dim = 32, .n_layers = 2});
  for (const PolicyCase& one : policy_cases())
    for (const KvFormat kv : kv_formats) {
      SCOPED_TRACE(one.name + ", cache in " + std::string(name(kv)));
      check(model, recorded(one.policy, kv));
    }
  check(model, recorded(prune::per_head(prune::learned_gate())));  // whose keys have a lane of their own
}

TEST(RewindTest, IsExactInEveryArchitecture) {
  for (const Architecture architecture : architectures()) {
    const Model model = random_model({.seed = 12, .architecture = architecture, .n_layers = 3});
    SCOPED_TRACE(describe(model));
    check(model, recorded(prune::h2o({.rows = 24, .recent = 9})));
    check(model, recorded(prune::learned_gate()));
  }
}

TEST(RewindTest, TokensPushedTogetherAreTokensPushedOneByOne) {
  const Model model = random_model({.seed = 32, .architecture = Architecture::llama, .n_layers = 2});
  const auto tokens = random_tokens(5, model.config(), 80);
  for (const PolicyCase& one : policy_cases()) {
    SCOPED_TRACE(one.name);
    Session a(model, recorded(one.policy)), b(model, recorded(one.policy));
    const SequenceId in_a = a.add(std::span(tokens).first(prompt)), in_b = b.add(std::span(tokens).first(prompt));
    a.step();
    b.step();
    Logits2d expected, logits;
    for (const Token token : std::span(tokens).subspan(prompt)) expected.push_back(push(a, in_a, token));
    // More than a chunk, and less.
    b.push(in_b, std::span(tokens).subspan(prompt, 33), Logits::all);
    step_into(b, in_b, logits);
    b.push(in_b, std::span(tokens).subspan(prompt + 33), Logits::all);
    step_into(b, in_b, logits);
    EXPECT_TRUE(same_bits(logits, expected));
    EXPECT_EQ(b.drop_at(in_b), a.drop_at(in_a));
  }
}

TEST(RewindTest, DropsAreReportedWhenTheyAreFinal) {
  const Model model = random_model({.seed = 33, .n_layers = 2, .window = 0});
  const auto tokens = random_tokens(6, model.config(), 40);
  std::size_t reported = 0;
  SessionOptions options = recorded(prune::streaming({.sinks = 1, .recent = 4}));
  options.on_drop = [&](SequenceId, const Drop&) { ++reported; };
  Session session(model, options);
  const SequenceId sequence = session.add(std::span(tokens).first(10));
  session.step();
  const std::size_t of_prompt = reported;
  session.mark(sequence);
  session.push(sequence, std::span(tokens).first(12), Logits::none);
  while (!session.idle()) session.step();
  EXPECT_EQ(reported, of_prompt);
  session.rewind(sequence, 13);
  session.commit(sequence);
  EXPECT_EQ(reported, session.stats(sequence).dropped_rows);
  EXPECT_GT(reported, of_prompt);
}

TEST(RewindTest, RefusesByName) {
  const Model model = random_model({.seed = 34, .n_layers = 2});
  const auto tokens = random_tokens(7, model.config(), 40);
  Session session(model, recorded(prune::none()));
  const SequenceId sequence = session.add(std::span(tokens).first(20));
  EXPECT_EQ(error_of([&] { session.mark(sequence); }), ErrorCode::state);  // it is pending
  session.step();
  EXPECT_EQ(error_of([&] { session.rewind(sequence, 21); }), ErrorCode::argument);
  session.mark(sequence);
  session.prompt(sequence, std::span(tokens).first(10));
  session.step();
  EXPECT_EQ(error_of([&] { session.rewind(sequence, 19); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.rewind(sequence, 31); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.rewind(sequence, 25); }), ErrorCode::argument);  // within a prompt
  const Position first[] = {0};
  EXPECT_EQ(error_of([&] { session.keep(sequence, first); }), ErrorCode::state);
  EXPECT_EQ(error_of([&] { session.forget(sequence, 0, first); }), ErrorCode::state);
  EXPECT_EQ(error_of([&] { session.fork(sequence); }), ErrorCode::state);
  session.rewind(sequence, 20);
  session.commit(sequence);
  session.keep(sequence, first);
  push(session, sequence, tokens[0]);
}

// --- Without a mark --------------------------------------------------------------------------------------------------

TEST(RewindTest, WithoutAMarkGoesBackAsFarAsNothingWasDropped) {
  const Model model = random_model({.seed = 37, .n_layers = 2});
  const auto tokens = random_tokens(5, model.config(), 60);
  const auto others = random_tokens(6, model.config(), 20);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    Session a(model, recorded(one.policy)), b(model, recorded(one.policy));
    const SequenceId in_a = a.add(std::span(tokens).first(prompt)), in_b = b.add(std::span(tokens).first(prompt));
    a.step();
    b.step();
    std::size_t went_back = 0;
    for (std::size_t i = prompt; i < tokens.size(); ++i) {
      for (std::size_t k = 0; k < 4; ++k) {
        const std::uint64_t dropped = b.stats(in_b).dropped_rows;
        push(b, in_b, others[k]);
        const bool changes = b.stats(in_b).dropped_rows > dropped || one.policy.needs().evidence.size() > 0;
        const auto error = error_of([&] { b.rewind(in_b, i); });
        if (!changes && error && !one.changes_values) {
          // A state of the lanes, or what closes rows ahead of time: the policy says no more than that it may not.
          EXPECT_EQ(error, ErrorCode::state);
        } else if (changes) {
          EXPECT_EQ(error, ErrorCode::state);
        }
        if (error) break;
        ++went_back;
        EXPECT_EQ(b.length(in_b), i);
      }
      if (b.length(in_b) > i) break;  // it could not: it is another sequence now
      EXPECT_TRUE(same_bits({push(b, in_b, tokens[i])}, {push(a, in_a, tokens[i])}));
      EXPECT_EQ(b.drop_at(in_b), a.drop_at(in_a));
      EXPECT_EQ(b.stats(in_b).live_rows, a.stats(in_a).live_rows);
    }
    if (!one.policy) {
      EXPECT_EQ(went_back, 4 * (tokens.size() - prompt));
      b.rewind(in_b, 7);  // within the prompt
      const std::vector<Token> rest(tokens.begin() + 7, tokens.begin() + 12);
      b.push(in_b, rest);
      b.step();
      EXPECT_EQ(b.length(in_b), 12u);
      EXPECT_TRUE(std::ranges::equal(b.tokens(in_b), std::span(tokens).first(12)));
    }
  }
}

TEST(RewindTest, ToTheLengthTakesBackWhatIsPending) {
  const Model model = random_model({.seed = 38, .n_layers = 2});
  const auto tokens = random_tokens(5, model.config(), 60);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    Session session(model, recorded(one.policy));
    const SequenceId sequence = session.add(std::span(tokens).first(prompt)), twin = session.fork(sequence);
    while (session.length(sequence) < prompt) session.step();
    session.prompt(sequence, std::span(tokens).subspan(20));
    session.rewind(sequence, prompt);
    while (session.length(twin) < prompt) session.step();
    EXPECT_TRUE(same_bits({push(session, sequence, tokens[0])}, {push(session, twin, tokens[0])}));
  }
}

// --- Early exit ------------------------------------------------------------------------------------------------------

TEST(RewindTest, DraftedTokensAreVerifiedAsIfTheyHadBeenPushed) {
  const Model model = random_model({.seed = 35, .architecture = Architecture::llama, .n_layers = 3});
  const auto tokens = random_tokens(8, model.config(), 60);
  for (const PolicyCase& one : policy_cases())
    for (const std::size_t layers : {std::size_t{1}, std::size_t{2}}) {
      SCOPED_TRACE(one.name + ", layers: " + std::to_string(layers));
      if (one.policy.needs().after_pass) continue;
      Session a(model, recorded(one.policy)), b(model, recorded(one.policy));
      const SequenceId in_a = a.add(std::span(tokens).first(prompt)), in_b = b.add(std::span(tokens).first(prompt));
      a.step();
      b.step();
      Logits2d expected, logits;
      for (const Token token : std::span(tokens).subspan(prompt)) expected.push_back(push(a, in_a, token));
      for (std::size_t i = prompt; i < tokens.size(); i += 5) {
        b.mark(in_b);
        const std::size_t length = b.length(in_b);
        for (const std::size_t wrong : {std::size_t{3}, std::size_t{0}}) {
          for (const Token token : std::span(tokens).subspan(wrong > 0 ? 0 : i, wrong > 0 ? wrong : 5)) {
            b.draft(in_b, token, layers);
            EXPECT_EQ(b.step().size(), 1u);
          }
          if (wrong > 0) b.rewind(in_b, length);  // before they were verified
        }
        b.verify(in_b);
        step_into(b, in_b, logits);
        b.commit(in_b);
      }
      EXPECT_TRUE(same_bits(logits, expected));
      EXPECT_EQ(b.drop_at(in_b), a.drop_at(in_a));
    }
}

TEST(RewindTest, VerifyingCanBeTakenBackHalfway) {
  const Model model = random_model({.seed = 35, .architecture = Architecture::llama, .n_layers = 3});
  const auto tokens = random_tokens(8, model.config(), 60);
  SessionOptions options = recorded(prune::h2o({.rows = 24, .recent = 9}));
  options.chunk = 2;  // fewer tokens a pass than are drafted
  Session a(model, options), b(model, options);
  const SequenceId in_a = a.add(std::span(tokens).first(prompt)), in_b = b.add(std::span(tokens).first(prompt));
  a.step();
  b.step();
  b.mark(in_b);
  for (std::size_t i = 0; i < 5; ++i) {
    b.draft(in_b, tokens[prompt + i], 1);
    b.step();
  }
  EXPECT_EQ(b.length(in_b), prompt);
  b.verify(in_b);
  Logits2d expected, logits;
  for (const Output& output : b.pass()) logits.push_back(copy(output.logits));
  EXPECT_EQ(logits.size(), 2u);
  EXPECT_EQ(b.length(in_b), prompt + 2);
  b.rewind(in_b, prompt + 2);
  b.commit(in_b);
  logits.push_back(push(b, in_b, tokens[prompt + 2]));
  for (std::size_t i = 0; i < 3; ++i) expected.push_back(push(a, in_a, tokens[prompt + i]));
  EXPECT_TRUE(same_bits(logits, expected));
  EXPECT_EQ(b.drop_at(in_b), a.drop_at(in_a));
}

TEST(RewindTest, EarlyExitIsTheModelWithoutItsOtherLayers) {
  const Model model =
      random_model({.seed = 36, .architecture = Architecture::llama, .n_layers = 3, .gate = ModelSpec::Gate::no});
  Config config = model.config();
  config.layers.resize(2);
  Weights weights = model.weights();
  weights.layers.resize(2);
  const Model short_model = Model::create(config, weights);
  const auto tokens = random_tokens(9, model.config(), 20);
  Session session(model, {.threads = 1}), other(short_model, {.threads = 1});
  const SequenceId id = session.add(std::span(tokens).first(19)), in_other = other.add(std::span(tokens).first(19));
  session.step();
  other.step();
  session.draft(id, tokens[19], 2);
  const auto early = copy(session.step().front().logits);
  EXPECT_TRUE(same_bits({early}, {push(other, in_other, tokens[19])}));
}

TEST(RewindTest, EarlyExitIsRefusedByName) {
  const Model model = random_model({.seed = 36, .n_layers = 3});
  const auto tokens = random_tokens(9, model.config(), 20);
  Session session(model, {.threads = 1});
  const SequenceId id = session.add(tokens);
  EXPECT_EQ(error_of([&] { session.draft(id, 0, 1); }), ErrorCode::state);
  session.step();
  EXPECT_EQ(error_of([&] { session.verify(id); }), ErrorCode::state);
  EXPECT_EQ(error_of([&] { session.draft(id, 0, 0); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.draft(id, 0, 3); }), ErrorCode::argument);
  session.draft(id, 0, 1);
  EXPECT_EQ(error_of([&] { session.push(id, 0); }), ErrorCode::state);
  EXPECT_EQ(error_of([&] { session.prompt(id, tokens); }), ErrorCode::state);
  session.step();
  EXPECT_EQ(error_of([&] { session.draft(id, 0, 2); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.push(id, 0); }), ErrorCode::state);
  session.verify(id);
  session.step();
  push(session, id, 0);
}

}  // namespace
}  // namespace pith::testing
