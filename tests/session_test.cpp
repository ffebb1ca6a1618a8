// SPDX-License-Identifier: MIT
// What a host may do with a session, in what order, and what it gets when it asks for what cannot be.
#include "pith/session.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <stdexcept>

#include "pith/error.hpp"
#include "pith/prune/methods.hpp"
#include "reference/decoder.hpp"
#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr std::uint64_t seed = 3;

Model small_model(ModelSpec::Gate gate = ModelSpec::Gate::yes) {
  return random_model(
      {.seed = seed, .architecture = Architecture::llama, .head_dim = 16, .n_layers = 3, .context = 200, .gate = gate});
}

std::vector<Token> some_tokens(const Model& model, std::size_t count) {
  return random_tokens(seed, model.config(), count);
}

std::vector<float> logits_of(Session& session) {
  const auto outputs = session.step();
  EXPECT_EQ(outputs.size(), 1u);
  return outputs.empty() ? std::vector<float>{} : copy(outputs[0].logits);
}

// --- Malformed calls -------------------------------------------------------------------------------------------------

TEST(SessionTest, RefusesMalformedPromptsAndStaysUsable) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 30);
  Session session(model, {.threads = 1});
  const SequenceId sequence = session.add(std::span(tokens).first(20));
  const auto expected = logits_of(session);

  const auto add = [&](std::vector<Token> prompt) { return error_of([&] { session.add(prompt); }); };
  EXPECT_EQ(add({}), ErrorCode::argument);
  EXPECT_EQ(add({0, -1}), ErrorCode::argument);
  EXPECT_EQ(add({model.config().vocab_size}), ErrorCode::argument);
  EXPECT_EQ(add({std::numeric_limits<Token>::max()}), ErrorCode::argument);
  EXPECT_EQ(add({std::numeric_limits<Token>::min()}), ErrorCode::argument);
  EXPECT_EQ(add(std::vector<Token>(201, 1)), ErrorCode::argument);

  const auto prompt = [&](std::vector<Token> more) { return error_of([&] { session.prompt(sequence, more); }); };
  EXPECT_EQ(prompt({}), ErrorCode::argument);
  EXPECT_EQ(prompt({1, 2, model.config().vocab_size}), ErrorCode::argument);
  EXPECT_EQ(prompt(std::vector<Token>(181, 1)), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.push(sequence, Token{-5}); }), ErrorCode::argument);
  EXPECT_TRUE(session.idle()) << "nothing of a refused call is pending";
  EXPECT_EQ(session.length(sequence), 20u);

  session.push(sequence, tokens[20]);
  const auto after = logits_of(session);
  EXPECT_EQ(Logits2d({expected, after}), [&] {
    Session other(model, {.threads = 1});
    const SequenceId same = other.add(std::span(tokens).first(20));
    Logits2d logits = {logits_of(other)};
    other.push(same, tokens[20]);
    logits.push_back(logits_of(other));
    return logits;
  }());
}

TEST(SessionTest, FillsTheContextToItsLastToken) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 201);
  Session session(model, {.threads = 1});
  const SequenceId sequence = session.add(std::span(tokens).first(199));
  session.step();
  session.push(sequence, tokens[199]);
  EXPECT_EQ(error_of([&] { session.prompt(sequence, std::span(tokens).subspan(200)); }), ErrorCode::argument)
      << "pending tokens count";
  EXPECT_EQ(session.step().size(), 1u);
  EXPECT_EQ(error_of([&] { session.push(sequence, tokens[200]); }), ErrorCode::argument);

  Session shorter(model, {.threads = 1, .context = 10});
  EXPECT_EQ(error_of([&] { shorter.add(std::span(tokens).first(11)); }), ErrorCode::argument);
  shorter.add(std::span(tokens).first(10));
  Session longer(model, {.threads = 1, .context = 220});  // rotary positions go on
  longer.add(tokens);
  EXPECT_EQ(longer.step().size(), 1u);
}

TEST(SessionTest, RefusesUnknownSequences) {
  const Model model = small_model();
  Session session(model, {.threads = 1, .record_drops = true});
  const SequenceId finished = session.add(some_tokens(model, 5));
  session.finish(finished);
  for (const SequenceId unknown : {finished, SequenceId{77}, SequenceId{0xffffffffu}}) {
    const ErrorCode code = unknown == finished ? ErrorCode::state : ErrorCode::argument;
    EXPECT_EQ(error_of([&] { session.push(unknown, Token{1}); }), code);
    EXPECT_EQ(error_of([&] { session.prompt(unknown, some_tokens(model, 2)); }), code);
    EXPECT_EQ(error_of([&] { session.finish(unknown); }), code);
    EXPECT_EQ(error_of([&] { session.fork(unknown); }), code);
    EXPECT_EQ(error_of([&] { session.set_tau(unknown, 0); }), code);
    EXPECT_EQ(error_of([&] { session.length(unknown); }), code);
    EXPECT_EQ(error_of([&] { session.stats(unknown); }), code);
    EXPECT_EQ(error_of([&] { session.drop_at(unknown); }), code);
  }
  EXPECT_NE(session.add(some_tokens(model, 5)), finished) << "an id names one sequence for ever";
}

TEST(SessionTest, RefusesBadOptions) {
  const Model model = small_model();
  const auto make = [](const Model& m, SessionOptions options) {
    return error_of([&] { Session session(m, std::move(options)); });
  };
  EXPECT_EQ(error_of([&] { Session session(model, {.threads = -1}); }), ErrorCode::argument);
  EXPECT_EQ(make(model, {.chunk = 0}), ErrorCode::argument);
  EXPECT_EQ(make(model, {.chunk = -3}), ErrorCode::argument);
  EXPECT_EQ(make(model, {.context = -1}), ErrorCode::argument);
  EXPECT_EQ(make(model, {.kv = KvFormat::q8_0}), ErrorCode::unsupported) << "a head of 16 is half a block";
  for (const KvPair& kv : {KvPair(KvFormat::f32, KvFormat::q4_0), KvPair(KvFormat::q4_0, KvFormat::f32)})
    EXPECT_EQ(make(model, {.kv = kv}), ErrorCode::unsupported) << name(kv);
  EXPECT_EQ(make(small_model(ModelSpec::Gate::no), {.policy = prune::learned_gate()}), ErrorCode::unsupported);
  EXPECT_EQ(make(random_model({.seed = 1, .architecture = Architecture::gpt2, .context = 64}), {.context = 65}),
            ErrorCode::argument)
      << "learned positions end where their table does";
  EXPECT_EQ(make(model, {.policy = prune::chain(prune::snapkv({.rows = 64, .window = 8}),
                                                prune::snapkv({.rows = 32, .window = 4}))}),
            ErrorCode::unsupported)
      << "there is one observation window";
}

TEST(SessionTest, RefusesBadPolicies) {
  using namespace prune;
  EXPECT_EQ(error_of([] { learned_gate({.tau = std::numeric_limits<float>::quiet_NaN()}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { streaming({.sinks = -1}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { streaming({.recent = 0}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { h2o({.rows = 0}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { h2o({.recent = -1}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { snapkv({.rows = 0}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { snapkv({.window = 0}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([] { snapkv({.pool = 4}); }), ErrorCode::argument);
}

TEST(SessionTest, TellsDropsOnlyWhereTheyAreRecorded) {
  const Model model = small_model();
  Session session(model, {.threads = 1});
  const SequenceId sequence = session.add(some_tokens(model, 5));
  EXPECT_EQ(error_of([&] { session.drop_at(sequence); }), ErrorCode::argument);
}

// --- Steps -----------------------------------------------------------------------------------------------------------

TEST(SessionTest, HasNothingToDoWhenIdle) {
  Session session(small_model(), {.threads = 1});
  EXPECT_TRUE(session.idle());
  EXPECT_TRUE(session.step().empty());
}

TEST(SessionTest, AsksTheGateOfAModelThatHasOneAndNoneOtherwise) {
  const Model gated = small_model();
  const auto tokens = some_tokens(gated, 120);
  EXPECT_EQ(feed(gated, tokens, {32}).drop_at, feed(gated, tokens, {32}, {.policy = prune::learned_gate()}).drop_at);
  EXPECT_GT(feed(gated, tokens, {32}).stats.dropped_rows, 0u);
  EXPECT_EQ(feed(gated, tokens, {32}, {.policy = prune::none()}).stats.dropped_rows, 0u);
  EXPECT_EQ(feed(small_model(ModelSpec::Gate::no), tokens, {32}).stats.dropped_rows, 0u);
}

TEST(SessionTest, GivesTheLastLogitsOrAll) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 40);
  const Fed all = feed(model, tokens, {16});
  Session session(model, {.threads = 1, .chunk = 16});
  const SequenceId sequence = session.add(tokens);
  EXPECT_EQ(logits_of(session), all.logits[39]) << "one step takes a prompt through all of its chunks";
  EXPECT_EQ(session.length(sequence), 40u);
  EXPECT_TRUE(session.idle());
}

TEST(SessionTest, GivesItsLogitsAwayForGood) {
  const Model model = small_model();
  Session session(model, {.threads = 1});
  const SequenceId sequence = session.add(some_tokens(model, 9), Logits::all);
  const std::span<const float> last = session.step().back().logits;
  const std::vector<float> was = copy(last);
  const Tensor<float> taken = session.take_logits();
  ASSERT_EQ(taken.rows(), 9u);
  session.push(sequence, 1);
  EXPECT_NE(logits_of(session), was);
  EXPECT_EQ(copy(last), was);
  EXPECT_EQ(copy(taken[8]), was);
  EXPECT_EQ(session.take_logits().rows(), 1u);
  EXPECT_EQ(session.take_logits().rows(), 0u);
}

TEST(SessionTest, ContinuesWithSeveralTokensAsWithOne) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 90);
  const Fed expected = feed(model, tokens, {256});
  Session session(model, {.threads = 1, .chunk = 32, .record_drops = true});
  const SequenceId sequence = session.add(std::span(tokens).first(10));
  logits_of(session);
  session.push(sequence, tokens[10]);
  session.prompt(sequence, std::span(tokens).subspan(11, 60));  // before the token was fed
  session.step();                                               // the token alone
  EXPECT_LT(relative_error(Logits2d{logits_of(session)}, Logits2d{expected.logits[70]}), 1e-5);
  session.prompt(sequence, std::span(tokens).subspan(71));
  EXPECT_LT(relative_error(Logits2d{logits_of(session)}, Logits2d{expected.logits[89]}), 1e-5);
  EXPECT_EQ(session.drop_at(sequence), expected.drop_at);
}

TEST(SessionTest, GivesTheLogitsThatEachCallAsksFor) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 60);
  const Fed expected = feed(model, tokens, {16});
  Session session(model, {.threads = 1, .chunk = 16});
  const SequenceId sequence = session.add(std::span(tokens).first(16), Logits::none);
  EXPECT_TRUE(session.step().empty());
  EXPECT_TRUE(session.idle());
  EXPECT_EQ(session.length(sequence), 16u);
  session.prompt(sequence, std::span(tokens).subspan(16, 16), Logits::all);
  session.prompt(sequence, std::span(tokens).subspan(32, 16));
  Logits2d logits;
  step_into(session, sequence, logits);
  ASSERT_EQ(logits.size(), 17u);
  for (std::size_t t = 16; t < 32; ++t) EXPECT_EQ(logits[t - 16], expected.logits[t]);
  EXPECT_EQ(logits[16], expected.logits[47]);
  session.push(sequence, tokens[48], Logits::none);
  EXPECT_TRUE(session.step().empty());
  session.push(sequence, tokens[49]);
  EXPECT_LT(relative_error(Logits2d{logits_of(session)}, Logits2d{expected.logits[49]}), 1e-5);
}

TEST(SessionTest, PassesOneAtATime) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 40);
  Session session(model, {.threads = 1, .chunk = 16});
  const SequenceId sequence = session.add(tokens);
  for (const std::size_t length : {16u, 32u}) {
    EXPECT_TRUE(session.pass().empty());
    EXPECT_EQ(session.length(sequence), length);
    EXPECT_FALSE(session.idle());
  }
  const auto outputs = session.pass();
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(copy(outputs[0].logits), feed(model, tokens, {16}).logits.back());
  EXPECT_TRUE(session.pass().empty());
}

TEST(SessionTest, PassesTakeChunksAheadWhereNothingDecodes) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 150);
  std::vector<std::size_t> sizes;  // of the passes' parts
  SessionOptions options{.threads = 1, .chunk = 16, .ahead = 64};
  options.on_pass = [&](const PassInfo& pass) { sizes.push_back(pass.tokens.size()); };
  Session session(model, options);
  const SequenceId one = session.add(std::span(tokens).first(20));
  session.step();
  EXPECT_EQ(sizes, (std::vector<std::size_t>{20})) << "the end of a prompt need be no whole chunk";
  session.add(std::span(tokens).first(150));
  session.pass();
  session.pass({}, 40);
  session.pass({}, 1);
  EXPECT_EQ(sizes, (std::vector<std::size_t>{20, 64, 32, 16}));
  session.push(one, tokens[20]);
  session.pass();
  EXPECT_EQ(sizes, (std::vector<std::size_t>{20, 64, 32, 16, 1, 16})) << "who decodes waits for no more than a chunk";
  session.pass();
  EXPECT_EQ(sizes.back(), 22u);
}

// A decoded token is chosen from the logits after all before it: two at once are a mistake, whatever was meant.
TEST(SessionTest, TakesOneDecodedTokenAtATime) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 30);
  Session session(model, {.threads = 1});
  const SequenceId sequence = session.add(std::span(tokens).first(10));
  EXPECT_EQ(error_of([&] { session.push(sequence, tokens[10]); }), ErrorCode::state) << "the prompt is not read yet";
  session.step();
  session.push(sequence, tokens[10]);
  EXPECT_EQ(error_of([&] { session.push(sequence, tokens[11]); }), ErrorCode::state);
  EXPECT_EQ(logits_of(session), [&] {
    Session other(model, {.threads = 1});
    const SequenceId same = other.add(std::span(tokens).first(10));
    other.step();
    other.push(same, tokens[10]);
    return logits_of(other);
  }()) << "a refused call leaves nothing behind";
}

// What is a prompt does not depend on when a step is made, nor on how long it is.
TEST(SessionTest, PoliciesActAtTheEndOfEachPrompt) {
  const Model model = small_model(ModelSpec::Gate::no);
  const auto tokens = some_tokens(model, 100);
  const auto policy = prune::snapkv({.rows = 12, .window = 4, .pool = 3});
  const auto lanes = static_cast<std::size_t>(model.config().n_kv_heads);
  const auto rows = [&](const Session& session, SequenceId sequence) {
    return session.stats(sequence).live_rows.front() / lanes;
  };
  for (const bool at_once : {false, true}) {
    Session session(model, {.policy = policy, .threads = 1});
    const SequenceId sequence = session.add(std::span(tokens).first(40));
    if (!at_once) session.step();
    session.prompt(sequence, std::span(tokens).subspan(40, 40));
    while (!session.idle()) session.step();
    EXPECT_EQ(rows(session, sequence), 12u);
    for (const Token token : std::span(tokens).subspan(80, 5)) {
      session.push(sequence, token);
      session.step();
    }
    EXPECT_EQ(rows(session, sequence), 17u) << "decoding is no prompt";
    session.prompt(sequence, std::span(tokens).subspan(85, 1));
    session.step();
    EXPECT_EQ(rows(session, sequence), 12u) << "one token can be a prompt";
  }
}

TEST(SessionTest, TakesNewSequencesWhileOthersGoOn) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 60);
  const Fed expected = feed(model, tokens, {16});
  Session session(model, {.threads = 1, .chunk = 16});
  const SequenceId early = session.add(std::span(tokens).first(32));
  std::map<SequenceId, std::size_t> fed = {{early, 32}};
  std::size_t matched = 0;
  for (int round = 0; round < 40; ++round) {
    if (round == 3 || round == 7) fed[session.add(std::span(tokens).first(16))] = 16;
    for (const Output& output : session.step()) {
      std::size_t& length = fed.at(output.sequence);
      EXPECT_LT(relative_error(Logits2d{copy(output.logits)}, Logits2d{expected.logits[length - 1]}), 1e-5);
      ++matched;
      if (length < tokens.size()) session.push(output.sequence, tokens[length++]);
    }
  }
  EXPECT_GT(matched, 80u);
}

// --- Budget ----------------------------------------------------------------------------------------------------------

std::size_t bytes_of(const Model& model, std::span<const Token> tokens, const prune::AnyPolicy& policy) {
  Session session(model, {.policy = policy, .threads = 1});
  const SequenceId sequence = session.add(tokens);
  session.step();
  return session.stats(sequence).bytes_used;
}

TEST(SessionTest, ABudgetThatIsExhaustedLeavesTheSessionUsable) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 150);
  const auto prompt = std::span(tokens).first(40);
  const std::size_t budget = 7 * bytes_of(model, prompt, prune::none()) / 2;  // in the end for one, but not for both

  std::vector<std::vector<float>> expected;
  {
    Session unlimited(model, {.policy = prune::none(), .threads = 1});
    const SequenceId sequence = unlimited.add(prompt);
    expected.push_back(logits_of(unlimited));
    for (std::size_t t = 40; t < tokens.size(); ++t) {
      unlimited.push(sequence, tokens[t]);
      expected.push_back(logits_of(unlimited));
    }
  }

  Session session(model, {.policy = prune::none(), .threads = 1, .kv_budget = budget});
  const SequenceId kept = session.add(prompt), other = session.add(prompt);
  while (!session.idle()) session.step();
  std::size_t next = 40, errors = 0;
  for (; errors == 0 && next < tokens.size(); ++next) {
    session.push(kept, tokens[next]);
    session.push(other, tokens[next]);
    try {
      // Where there is room for one of them, it goes ahead.
      while (!session.idle())
        for (const Output& output : session.step())
          if (output.sequence == kept) {
            EXPECT_EQ(copy(output.logits), expected[next - 39]);
          }
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::budget) << error.what();
      ++errors;
    }
  }
  ASSERT_EQ(errors, 1u);
  EXPECT_LE(session.stats().bytes_high_water, budget);

  const CacheStats before = session.stats();
  EXPECT_EQ(error_of([&] { session.step(); }), ErrorCode::budget) << "it does not get better by asking again";
  EXPECT_EQ(session.stats().seen_rows, before.seen_rows);
  EXPECT_EQ(session.stats().bytes_used, before.bytes_used);

  session.finish(other);
  if (session.idle()) session.push(kept, tokens[next++]);
  for (; next <= tokens.size(); ++next) {
    const auto outputs = session.step();
    ASSERT_EQ(outputs.size(), 1u);
    EXPECT_EQ(copy(outputs[0].logits), expected[session.length(kept) - 40]) << "token " << session.length(kept);
    if (next < tokens.size()) session.push(kept, tokens[next]);
  }
  EXPECT_EQ(session.length(kept), tokens.size());
}

TEST(SessionTest, ABudgetOfLessThanAToken) {
  const Model model = small_model();
  Session session(model, {.threads = 1, .kv_budget = 100});
  const SequenceId sequence = session.add(some_tokens(model, 3));
  EXPECT_EQ(error_of([&] { session.step(); }), ErrorCode::budget);
  EXPECT_EQ(session.length(sequence), 0u);
  EXPECT_EQ(session.stats().bytes_used, 0u);
  session.finish(sequence);
  EXPECT_TRUE(session.step().empty());
}

TEST(SessionTest, FitsALongPromptIntoABudgetThatItsSurvivorsFit) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 200);
  const auto policy = prune::streaming({.sinks = 4, .recent = 30});
  const std::size_t budget = bytes_of(model, std::span(tokens).first(64), prune::none());
  ASSERT_GT(bytes_of(model, tokens, prune::none()), 2 * budget);
  const Fed expected = feed(model, tokens, {256}, {.policy = policy});
  Session session(model, {.policy = policy, .threads = 1, .kv_budget = budget});
  session.add(tokens);
  EXPECT_LT(relative_error(Logits2d{logits_of(session)}, Logits2d{expected.logits.back()}), 1e-5);
  EXPECT_LE(session.stats().bytes_high_water, budget);
}

/// A sequence's logits and drops, while others take what they can of the budget.
Played with_neighbours(const Model& model, SessionOptions options, const Script& script, std::uint64_t chance,
                       std::size_t& waited) {
  Random random(chance);
  Session session(model, std::move(options));
  Played played;
  std::map<SequenceId, std::size_t> others;  // tokens to come
  std::optional<SequenceId> self;
  for (std::size_t round = 0;; ++round) {
    if (!self && round == chance % 5) self = session.add(script.prompt);
    if (others.size() < 3 && random.integer(0, 2) == 0)
      others.emplace(session.add(random_tokens(chance * 100 + round, model.config(), 60u + round % 40)), round % 20);
    if (session.idle()) continue;
    try {
      for (const Output& output : session.pass()) {
        if (output.sequence == self) {
          played.logits.push_back(copy(output.logits));
          if (played.logits.size() > script.rest.size()) {
            played.drop_at = session.drop_at(*self);
            return played;
          }
          session.push(*self, script.rest[played.logits.size() - 1]);
        } else if (others.at(output.sequence)-- == 0) {
          session.finish(output.sequence);
          others.erase(output.sequence);
        } else {
          session.push(output.sequence, random.integer(0, model.config().vocab_size - 1));
        }
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::budget) << error.what();
      if (others.empty()) throw;
      session.finish(others.rbegin()->first);
      others.erase(std::prev(others.end()));
    }
    waited += session.waiting();
  }
}

TEST(SessionTest, UnderABudgetASequenceIsWhatItIsAlone) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 130);
  const Script script{{tokens.begin(), tokens.begin() + 100}, {tokens.begin() + 100, tokens.end()}};
  for (const PolicyCase& one : policy_cases(model.config())) {
    // Room for the whole sequence and no more, and for less than its chunk where its policy is to make room.
    for (const std::size_t budget :
         {bytes_of(model, tokens, prune::none()), bytes_of(model, std::span(tokens).first(64), prune::none())}) {
      SessionOptions options{
          .policy = one.policy, .threads = 1, .chunk = 70, .kv_budget = budget, .record_drops = true};
      Session alone(model, options);
      Played expected;
      try {
        expected = play(alone, {script}, DropLog::Keep::history)[0];
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ErrorCode::budget) << one.name << ": " << error.what();
        continue;  // it does not fit
      }
      std::size_t waited = 0;
      for (std::uint64_t chance = 1; chance <= 4; ++chance) {
        options.ahead = chance % 2 == 0 ? 150 : 0;
        SCOPED_TRACE(one.name + ", budget of " + std::to_string(budget) + ", neighbours " + std::to_string(chance));
        const Played among = with_neighbours(model, options, script, chance, waited);
        EXPECT_TRUE(same_bits(among.logits, expected.logits));
        EXPECT_EQ(among.drop_at, expected.drop_at);
      }
      EXPECT_GT(waited, 0u) << one.name << ": no neighbour ever was in the way";
    }
  }
}

// --- Cancellation ----------------------------------------------------------------------------------------------------

/// Asks to stop while a layer of the pass that ends at token `next` is worked on.
struct StopAt {
  std::size_t layer = 0;
  Position next = 0;
  std::stop_source source;

  prune::Needs needs() const { return {}; }
  void before_attention(const KvLayer& at, const prune::Moment& moment) const {
    if (at.layer() == layer && moment.next == next) std::stop_source(source).request_stop();
  }
};

TEST(SessionTest, GoesOnWhereItWasStopped) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 70);
  for (const PolicyCase& one : policy_cases(model.config())) {
    const Fed expected = feed(model, tokens, {32}, {.policy = one.policy});
    for (const std::size_t layer : {0u, 1u}) {  // after the last layer there is nothing left to stop
      for (const Position next : {32, 64, 70}) {
        SCOPED_TRACE(one.name + ", stopped in layer " + std::to_string(layer) + " before " + std::to_string(next));
        const StopAt stop_at{layer, next, {}};
        Session session(model,
                        {.policy = prune::chain(one.policy, stop_at), .threads = 1, .chunk = 32, .record_drops = true});
        const SequenceId sequence = session.add(tokens, Logits::all);
        Logits2d logits;
        std::size_t stops = 0;
        while (!session.idle()) {
          try {
            for (const Output& output : session.step(stops == 0 ? stop_at.source.get_token() : std::stop_token()))
              logits.push_back(copy(output.logits));
          } catch (const Error& error) {
            ASSERT_EQ(error.code(), ErrorCode::cancelled) << error.what();
            EXPECT_EQ(session.length(sequence), static_cast<std::size_t>((next - 1) / 32 * 32));
            ++stops;
          }
        }
        EXPECT_EQ(stops, 1u);
        EXPECT_TRUE(same_bits(logits, expected.logits));
        EXPECT_EQ(session.drop_at(sequence), expected.drop_at);
      }
    }
  }
}

TEST(SessionTest, DoesNothingWhenItIsStoppedFromTheStart) {
  const Model model = small_model();
  Session session(model, {.threads = 1});
  const SequenceId sequence = session.add(some_tokens(model, 20));
  std::stop_source source;
  source.request_stop();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(error_of([&] { session.step(source.get_token()); }), ErrorCode::cancelled);
  EXPECT_EQ(session.length(sequence), 0u);
  EXPECT_EQ(session.stats().bytes_used, 0u);
  EXPECT_EQ(logits_of(session), feed(model, some_tokens(model, 20), {256}).logits.back());
}

TEST(SessionTest, FinishesASequenceWhoseStepWasStoppedHalfway) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 40);
  const Fed expected = feed(model, tokens, {64});
  for (const bool first_goes : {false, true}) {
    const StopAt stop_at{1, 40, {}};
    Session session(
        model,
        {.policy = prune::chain(prune::learned_gate(), stop_at), .threads = 1, .chunk = 80, .record_drops = true});
    const SequenceId first = session.add(tokens), second = session.add(tokens);
    ASSERT_EQ(error_of([&] { session.step(stop_at.source.get_token()); }), ErrorCode::cancelled);
    EXPECT_EQ(error_of([&] { session.set_tau(first, 0); }), ErrorCode::state);
    EXPECT_EQ(error_of([&] { session.keep(first, std::vector<Position>{0}); }), ErrorCode::state);
    EXPECT_EQ(error_of([&] { session.forget(first, 0, std::vector<Position>{0}); }), ErrorCode::state);
    EXPECT_EQ(error_of([&] { session.fork(first); }), ErrorCode::state) << "half a token has no copy";
    const SequenceId late = session.add(tokens);
    session.finish(first_goes ? first : second);
    const SequenceId stays = first_goes ? second : first;
    std::size_t outputs = 0;
    while (!session.idle()) {
      for (const Output& output : session.step()) {
        EXPECT_TRUE(output.sequence == stays || output.sequence == late);
        EXPECT_EQ(copy(output.logits), expected.logits.back());
        ++outputs;
      }
    }
    EXPECT_EQ(outputs, 2u);
    EXPECT_EQ(session.drop_at(stays), expected.drop_at);
    session.finish(stays);
    session.finish(late);
    EXPECT_EQ(session.stats().bytes_used, 0u);
  }
}

TEST(SessionTest, FinishesTheOnlySequenceWhoseStepWasStoppedHalfway) {
  const Model model = small_model();
  const StopAt stop_at{1, 40, {}};
  Session session(model, {.policy = stop_at, .threads = 1});
  const auto tokens = some_tokens(model, 40);
  const SequenceId sequence = session.add(tokens);
  ASSERT_EQ(error_of([&] { session.step(stop_at.source.get_token()); }), ErrorCode::cancelled);
  session.finish(sequence);
  EXPECT_TRUE(session.idle());
  EXPECT_TRUE(session.step().empty());
  EXPECT_EQ(session.stats().bytes_used, 0u);
  session.add(tokens);
  EXPECT_EQ(logits_of(session), feed(model, tokens, {256}, {.policy = prune::none()}).logits.back());
}

// --- Fork ------------------------------------------------------------------------------------------------------------

TEST(SessionTest, ForksRememberWhatTheirOriginRemembered) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 100);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    SessionOptions options{.policy = one.policy, .threads = 1, .chunk = 32, .record_drops = true};
    const Script script{{tokens.begin(), tokens.begin() + 60}, {tokens.begin() + 60, tokens.end()}};
    Session alone(model, options);
    const Played expected = play(alone, {script}, DropLog::Keep::history)[0];

    Session session(model, options);
    const SequenceId origin = session.add(script.prompt);
    session.step();
    const SequenceId twin = session.fork(origin), other = session.fork(origin);
    EXPECT_EQ(session.drop_at(twin), session.drop_at(origin));
    EXPECT_EQ(session.stats().bytes_used, session.stats(origin).bytes_used) << "until they part, they share";
    EXPECT_EQ(session.stats(twin).bytes_shared, session.stats(origin).bytes_used);
    for (std::size_t i = 0; i < script.rest.size(); ++i) {
      if (i == 20) session.finish(origin);
      session.push(twin, script.rest[i]);
      session.push(other, script.rest[(7 * i + 3) % script.rest.size()]);
      if (i < 20) session.push(origin, script.rest[i]);
      while (!session.idle())
        for (const Output& output : session.step())
          if (output.sequence != other) {
            EXPECT_EQ(copy(output.logits), expected.logits[i + 1]) << "token " << i;
          }
    }
    EXPECT_EQ(session.drop_at(twin), expected.drop_at);
    session.finish(twin);
    session.finish(other);
    EXPECT_EQ(session.stats().bytes_used, 0u);
  }
}

TEST(SessionTest, ForksTakePendingTokensAlong) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 50);
  for (const PolicyCase& one : policy_cases()) {
    SCOPED_TRACE(one.name);
    Session session(model, {.policy = one.policy, .threads = 1, .chunk = 16});
    const SequenceId origin = session.add(tokens);
    const SequenceId twin = session.fork(origin);
    Logits2d logits;
    while (!session.idle())
      for (const Output& output : session.step()) logits.push_back(copy(output.logits));
    ASSERT_EQ(logits.size(), 2u);
    EXPECT_EQ(logits[0], logits[1]);
    EXPECT_EQ(session.length(twin), 50u);
    EXPECT_EQ(session.stats(twin).live_rows, session.stats(origin).live_rows);
  }
}

TEST(SessionTest, ForksKeepTheBudget) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 40);
  const std::size_t bytes = bytes_of(model, tokens, prune::none());
  Session session(model, {.policy = prune::none(), .threads = 1, .kv_budget = bytes + bytes / 2});
  const SequenceId origin = session.add(tokens);
  session.step();
  const SequenceId twin = session.fork(origin), other = session.fork(origin);
  EXPECT_EQ(session.stats().bytes_used, bytes);
  session.push(twin, tokens[0]);
  session.step();
  EXPECT_EQ(session.stats().bytes_used, bytes + bytes / 2) << "of two pages a lane, one is filled by both";
  EXPECT_EQ(session.stats(twin).bytes_shared, bytes / 2);
  session.push(other, tokens[1]);
  EXPECT_EQ(error_of([&] { session.step(); }), ErrorCode::budget);
  const Position first[] = {0};
  EXPECT_EQ(error_of([&] { session.keep(other, first); }), ErrorCode::budget) << "pages would have to be copied";
  session.finish(twin);
  session.step();
  session.push(origin, tokens[2]);
  session.step();
  EXPECT_EQ(session.stats().bytes_used, bytes + bytes / 2);
}

TEST(SessionTest, ForksShareWhatTheirPolicyDoesNotChange) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 100);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    Session session(model, {.policy = one.policy, .threads = 1, .chunk = 32});
    const SequenceId origin = session.add(std::span(tokens).first(90));
    session.step();
    const SequenceId twin = session.fork(origin);
    session.push(twin, tokens[90]);
    session.step();
    const std::size_t shared = session.stats(twin).bytes_shared, used = session.stats(twin).bytes_used;
    EXPECT_EQ(session.stats().bytes_used, used + session.stats(origin).bytes_used - shared);
    if (!one.policy) {
      EXPECT_EQ(shared, used * 2 / 3) << "of three pages the last is copied";
    }
    session.finish(origin);
    EXPECT_EQ(session.stats(twin).bytes_shared, 0u);
    EXPECT_EQ(session.stats().bytes_used, used);
  }
}

// --- Callbacks -------------------------------------------------------------------------------------------------------

TEST(SessionTest, ReportsTheProgressOfPrompts) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 100);
  std::map<SequenceId, std::vector<std::size_t>> done;
  SessionOptions options{.threads = 1, .chunk = 32};
  options.on_prefill = [&](const Progress& progress) {
    EXPECT_EQ(progress.total, 100u);
    done[progress.sequence].push_back(progress.done);
  };
  Session session(model, std::move(options));
  const SequenceId first = session.add(tokens), second = session.add(tokens);
  while (!session.idle()) session.step();
  const std::vector<std::size_t> expected = {32, 64, 96, 100};
  EXPECT_EQ(done[first], expected);
  EXPECT_EQ(done[second], expected);

  done.clear();
  session.push(first, tokens[0]);
  session.step();
  EXPECT_TRUE(done.empty()) << "decoding is no prompt";
}

TEST(SessionTest, ReportsDropsAndPassesAsTheyHappen) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 120);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    Session recording(model, {.policy = one.policy, .threads = 1, .chunk = 32, .record_drops = true});
    const SequenceId recorded = recording.add(tokens);
    recording.step();
    const DropAt expected = recording.drop_at(recorded);
    DropAt drop_at = expected;
    for (auto& layer : drop_at)
      for (auto& lane : layer) std::ranges::fill(lane, -1);
    std::vector<Token> fed;
    std::size_t drops = 0;
    SessionOptions options{.policy = one.policy, .threads = 1, .chunk = 32};
    options.on_drop = [&](SequenceId, const Drop& drop) {
      ++drops;
      auto& at = drop_at[drop.layer][drop.lane][static_cast<std::size_t>(drop.position)];
      EXPECT_EQ(at, -1) << "a drop is final";
      if (drop.until < static_cast<Position>(tokens.size())) at = drop.until;
    };
    options.on_pass = [&](const PassInfo& pass) {
      EXPECT_EQ(pass.first, static_cast<Position>(fed.size()));
      fed.insert(fed.end(), pass.tokens.begin(), pass.tokens.end());
      EXPECT_EQ(pass.live_rows.size(), expected.size());
    };
    Session session(model, std::move(options));
    session.add(tokens);
    session.step();
    EXPECT_EQ(drop_at, expected);
    EXPECT_EQ(drops, recording.stats(recorded).dropped_rows);
    EXPECT_EQ(fed, tokens);
  }
}

TEST(SessionTest, SurvivesACallbackThatThrows) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 100);
  int calls = 0;
  SessionOptions options{.threads = 1, .chunk = 32};
  options.on_prefill = [&](const Progress&) {
    if (++calls == 2) throw std::runtime_error("the host's own");
  };
  Session session(model, std::move(options));
  const SequenceId sequence = session.add(tokens);
  EXPECT_THROW(session.step(), std::runtime_error);
  EXPECT_EQ(session.length(sequence), 64u);
  EXPECT_EQ(logits_of(session), feed(model, tokens, {32}).logits.back());
}

TEST(SessionTest, LosesNoLogitsToACallbackThatThrows) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 60);
  const Logits2d expected = {feed(model, std::span(tokens).first(50), {64}).logits.back(),
                             feed(model, std::span(tokens).first(20), {64}).logits.back()};
  for (const int throws_at : {1, 2, 3, 4, 5}) {  // of four calls
    SCOPED_TRACE(throws_at);
    int calls = 0;
    std::map<SequenceId, std::vector<std::string>> heard;
    const auto call = [&](SequenceId id, const char* what) {
      heard[id].emplace_back(what);
      if (++calls == throws_at) throw std::runtime_error("the host's own");
    };
    SessionOptions options{.threads = 1, .chunk = 64};
    options.on_pass = [&](const PassInfo& pass) { call(pass.sequence, "pass"); };
    options.on_prefill = [&](const Progress& at) { call(at.sequence, "prefill"); };
    Session session(model, std::move(options));
    const SequenceId first = session.add(std::span(tokens).first(50));
    const SequenceId second = session.add(std::span(tokens).first(20));
    std::map<SequenceId, std::vector<float>> logits;
    int thrown = 0;
    while (!session.idle()) {
      try {
        for (const Output& output : session.step()) {
          EXPECT_TRUE(logits.emplace(output.sequence, copy(output.logits)).second) << "given twice";
          session.finish(output.sequence);
        }
      } catch (const std::runtime_error&) {
        ++thrown;
        EXPECT_FALSE(session.idle()) << "there are logits to be given";
      }
    }
    EXPECT_EQ(thrown, throws_at <= 4 ? 1 : 0);
    EXPECT_EQ(logits[first], expected[0]);
    EXPECT_EQ(logits[second], expected[1]);
    for (const SequenceId id : {first, second})
      EXPECT_EQ(heard[id], (std::vector<std::string>{"pass", "prefill"})) << "each once";
  }
}

TEST(SessionTest, ForgetsTheLogitsOfASequenceThatIsFinishedBeforeTheyAreGiven) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 20);
  int calls = 0;
  SessionOptions options{.threads = 1};
  options.on_pass = [&](const PassInfo&) {
    if (++calls == 1) throw std::runtime_error("the host's own");
  };
  Session session(model, std::move(options));
  const SequenceId first = session.add(tokens), second = session.add(tokens);
  EXPECT_THROW(session.step(), std::runtime_error);
  session.finish(second);
  const auto outputs = session.step();
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].sequence, first);
  EXPECT_EQ(calls, 1) << "nothing is told of what is finished";
  EXPECT_TRUE(session.idle());
}

// --- Strength --------------------------------------------------------------------------------------------------------

TEST(SessionTest, TheStrengthOfTheGateCanChangeBetweenSteps) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 90);
  constexpr float harder = 0.7f;
  const auto drops = [&](float tau, bool later) {
    const auto policy = prune::chain(prune::streaming({.sinks = 4, .recent = 60}), prune::learned_gate({.tau = tau}));
    Session session(model, {.policy = policy, .threads = 1, .record_drops = true});
    const SequenceId sequence = session.add(std::span(tokens).first(40));
    session.step();
    if (later) session.set_tau(sequence, harder);
    const SequenceId twin = session.fork(sequence);
    for (const SequenceId id : {sequence, twin}) session.prompt(id, std::span(tokens).subspan(40));
    while (!session.idle()) session.step();
    EXPECT_EQ(session.drop_at(sequence), session.drop_at(twin)) << "a fork is as strict";
    return session.drop_at(sequence);
  };
  const DropAt soft = drops(0, false), changed = drops(0, true), hard = drops(harder, false);
  std::size_t dropped = 0;
  for (std::size_t layer = 0; layer < soft.size(); ++layer)
    for (std::size_t j = 0; j < tokens.size(); ++j) {
      const int as_before = soft[layer][0][j], now = changed[layer][0][j];
      if (as_before >= 0 && as_before < 40) {
        EXPECT_EQ(now, as_before) << "what is dropped stays so";
      }
      if (now >= 0 && now < 40) {
        EXPECT_EQ(now, as_before) << "nothing is dropped in retrospect";
      }
      // A gate's score of a pair is its own: the first layer's do not depend on what was dropped before.
      if (layer == 0 && j >= 40) {
        EXPECT_EQ(now, hard[layer][0][j]);
      }
      dropped += now >= 40 && (as_before < 0 || now < as_before) ? 1u : 0u;
    }
  EXPECT_GT(dropped, 0u);
}

TEST(SessionTest, RefusesStrengthsThatAreNone) {
  const Model model = small_model();
  Session session(model, {.threads = 1}), dense(model, {.policy = prune::none(), .threads = 1});
  const SequenceId sequence = session.add(some_tokens(model, 5)), other = dense.add(some_tokens(model, 5));
  EXPECT_EQ(error_of([&] { session.set_tau(sequence, std::nanf("")); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { dense.set_tau(other, 0); }), ErrorCode::unsupported);
  session.set_tau(sequence, -std::numeric_limits<float>::infinity());  // drops nothing
}

// --- Counterfactuals -------------------------------------------------------------------------------------------------

/// Some tokens are not seen in some layer from a position on.
class Forgotten : public reference::Visibility {
 public:
  Forgotten(int layer, int from, std::vector<int> tokens) : layer_(layer), from_(from), tokens_(std::move(tokens)) {}
  bool sees(int layer, int /*kv_head*/, int n, int j) const override {
    return layer != layer_ || n < from_ || std::ranges::find(tokens_, j) == tokens_.end();
  }

 private:
  int layer_, from_;
  std::vector<int> tokens_;
};

TEST(SessionTest, ForgetsOnDemand) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 80);
  const std::vector<Position> positions = {0, 7, 33, 59};
  Forgotten forgotten(1, 60, {positions.begin(), positions.end()});
  const auto expected =
      reference::forward(model.config(), model.weights(), tokens, {.tau = std::nullopt, .visibility = &forgotten});
  Session session(model, {.policy = prune::none(), .threads = 1, .record_drops = true});
  const SequenceId sequence = session.add(std::span(tokens).first(60), Logits::all);
  Logits2d logits;
  step_into(session, sequence, logits);
  session.forget(sequence, 1, positions);
  session.forget(sequence, 1, positions);  // what is not there is passed over
  session.prompt(sequence, std::span(tokens).subspan(60), Logits::all);
  step_into(session, sequence, logits);
  EXPECT_LT(relative_error(logits, expected.logits), 1e-5);
  EXPECT_EQ(session.drop_at(sequence)[1][0], expected.drop_at[1][0]);

  EXPECT_EQ(error_of([&] { session.forget(sequence, 3, positions); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.forget(sequence, 0, std::vector<Position>{80}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { session.keep(sequence, std::vector<Position>{-1}); }), ErrorCode::argument);
}

TEST(SessionTest, KeepsOnDemand) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 120);
  for (const PolicyCase& one : policy_cases()) {
    SCOPED_TRACE(one.name);
    Session session(model, {.policy = one.policy, .threads = 1, .chunk = 16, .record_drops = true});
    const SequenceId sequence = session.add(std::span(tokens).first(3));
    session.step();
    const auto before = session.drop_at(sequence);
    session.keep(sequence, std::vector<Position>{0, 1, 2});
    session.prompt(sequence, std::span(tokens).subspan(3));
    session.step();
    const auto after = session.drop_at(sequence);
    for (std::size_t layer = 0; layer < after.size(); ++layer)
      for (std::size_t lane = 0; lane < after[layer].size(); ++lane)
        for (std::size_t j = 0; j < 3; ++j) EXPECT_EQ(after[layer][lane][j], before[layer][lane][j]);
  }
}

TEST(SessionTest, KeepsWhatIsToComeFromItsFirstMoment) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 120);
  const std::vector<Position> kept = {0, 1, 17, 60};
  for (const PolicyCase& one : policy_cases()) {
    SCOPED_TRACE(one.name);
    for (const int chunk : {1, 16, 256}) {
      Session session(model, {.policy = one.policy, .threads = 1, .chunk = chunk, .record_drops = true});
      const SequenceId sequence = session.add(std::span(tokens).first(100));
      session.keep(sequence, kept);
      session.step();
      const SequenceId fork = session.fork(sequence);
      session.keep(fork, std::vector<Position>{100});
      for (std::size_t t = 100; t < tokens.size(); ++t) {
        session.push(fork, tokens[t]);
        session.step();
      }
      const auto drops = session.drop_at(fork);
      for (const auto& layer : drops)
        for (const auto& lane : layer) {
          for (const Position j : kept) EXPECT_EQ(lane[static_cast<std::size_t>(j)], -1) << j;
          EXPECT_EQ(lane[100], -1);
        }
    }
  }
  Session session(model, {.threads = 1});
  const SequenceId sequence = session.add(tokens);
  const auto beyond = static_cast<Position>(session.context());
  EXPECT_EQ(error_of([&] { session.keep(sequence, std::vector{beyond}); }), ErrorCode::argument);
}

// --- Handles ---------------------------------------------------------------------------------------------------------

TEST(SessionTest, MovesWithAllItHas) {
  const Model model = small_model();
  const auto tokens = some_tokens(model, 41);
  const Fed expected = feed(model, tokens, {64});
  Session first(model, {.threads = 1});
  const SequenceId sequence = first.add(std::span(tokens).first(40));
  first.step();
  Session second(std::move(first));
  Session third(model, {.threads = 1});
  third.add(tokens);
  third = std::move(second);
  third.push(sequence, tokens[40]);
  EXPECT_LT(relative_error(Logits2d{logits_of(third)}, Logits2d{expected.logits.back()}), 1e-5);
}

}  // namespace
}  // namespace pith::testing
