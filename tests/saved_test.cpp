// SPDX-License-Identifier: MIT
// A sequence that was saved goes on as if it had not been, bit for bit; and no file, whatever is wrong with it, does
// more than to be refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "pith/prune/methods.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/kv.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

std::span<const std::byte> bytes_of(const std::string& saved) { return std::as_bytes(std::span(saved)); }

Logits2d go_on(Session& session, SequenceId sequence, std::span<const Token> tokens) {
  Logits2d logits;
  session.push(sequence, tokens, Logits::all);
  step_into(session, sequence, logits);
  return logits;
}

struct Length {
  std::size_t prompt = 48, decoded = 12, rest = 100;
};

/// Saved after some tokens, and restored elsewhere: both go on alike.
void check(const Model& model, const SessionOptions& options, Length n) {
  const auto tokens = random_tokens(3, model.config(), n.prompt + n.decoded + n.rest);
  Session session(model, options), other(model, options);
  const SequenceId one = session.add(std::span(tokens).first(n.prompt));
  session.step();
  go_on(session, one, std::span(tokens).subspan(n.prompt, n.decoded));
  const std::string saved = session.save(one);
  EXPECT_EQ(session.save(one), saved);

  const SequenceId before = other.add(std::span(tokens).first(5));
  const Restored restored = other.restore(bytes_of(saved));
  const SequenceId two = restored.sequence;
  EXPECT_EQ(restored.note, "");
  EXPECT_EQ(other.length(two), n.prompt + n.decoded);
  EXPECT_TRUE(std::ranges::equal(other.tokens(two), std::span(tokens).first(n.prompt + n.decoded)));
  EXPECT_EQ(other.save(two), saved) << "what was restored is what was saved";
  other.finish(before);
  const auto rest = std::span(tokens).subspan(n.prompt + n.decoded);
  EXPECT_TRUE(same_bits(go_on(other, two, rest), go_on(session, one, rest)));
  if (options.record_drops) {
    EXPECT_EQ(other.drop_at(two), session.drop_at(one));
  }
  EXPECT_EQ(other.stats(two).live_rows, session.stats(one).live_rows);
  EXPECT_EQ(other.stats(two).dropped_rows, session.stats(one).dropped_rows);
  other.finish(two);
  EXPECT_EQ(other.stats().bytes_used, 0u);
}

TEST(SavedTest, EveryMethodGoesOnBitForBit) {
  const Model model = random_model({.seed = 31, .architecture = Architecture::qwen3, .head_dim = 32, .n_layers = 2});
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    check(model, {.policy = one.policy, .threads = 1, .chunk = 16, .record_drops = true}, {});
  }
}

TEST(SavedTest, EveryCacheFormatGoesOnBitForBit) {
  const Model model = random_model({.seed = 31, .architecture = Architecture::qwen3, .head_dim = 32, .n_layers = 2});
  for (const PolicyCase& one : policy_cases(model.config()))
    for (const KvPair& kv : kv_pairs()) {
      if (kv == KvFormat::f32) continue;
      SCOPED_TRACE(one.name + " in " + name(kv));
      check(model, {.policy = one.policy, .kv = kv, .threads = 1, .chunk = 32},
            {.prompt = 40, .decoded = 1, .rest = 8});
    }
}

TEST(SavedTest, SlidingWindowsAndSharedLanesGoOnBitForBit) {
  for (const ModelSpec& spec :
       {ModelSpec{.seed = 5, .architecture = Architecture::mistral, .n_layers = 2},
        ModelSpec{.seed = 6, .architecture = Architecture::gpt2, .n_layers = 2},
        ModelSpec{.seed = 7, .n_layers = 4, .lanes = ModelSpec::Lanes::shared},
        ModelSpec{.seed = 8, .architecture = Architecture::qwen3, .n_layers = 2, .gate_scope = GateScope::kv_head}}) {
    const Model model = random_model(spec);
    SCOPED_TRACE(describe(model));
    for (const auto& policy :
         {prune::none(), prune::AnyPolicy(prune::learned_gate()), prune::per_head(prune::learned_gate())})
      check(model, {.policy = policy, .threads = 1, .chunk = 16, .record_drops = true}, {.rest = 30});
  }
}

TEST(SavedTest, WhatIsPendingIsSavedToo) {
  const Model model = random_model({.seed = 33, .architecture = Architecture::qwen3, .n_layers = 4});
  const auto tokens = random_tokens(3, model.config(), 120);
  for (const PolicyCase& one : policy_cases(model.config())) {
    SCOPED_TRACE(one.name);
    const SessionOptions options{.policy = one.policy, .threads = 1, .chunk = 16};
    Session session(model, options);
    const SequenceId sequence = session.add(std::span(tokens).first(70));
    const Position pins[] = {60, 61, 100};
    session.keep(sequence, pins);
    session.compress(sequence, 55, 65, std::span(pins).first(2));
    std::map<SequenceId, Logits2d> logits, expected;  // of forks, and of what was saved where they began
    for (int passes = 0; !session.idle(); ++passes) {
      if (passes == 3) session.prompt(sequence, std::span(tokens).subspan(70, 30));
      const std::string saved = session.save(sequence);
      Session other(model, options);
      const SequenceId again = other.restore(bytes_of(saved)).sequence;
      EXPECT_EQ(other.save(again), saved);
      if (passes == 2 || passes == 7) step_into(other, again, expected[session.fork(sequence)]);
      for (const Output& output : session.pass())
        if (output.sequence != sequence) logits[output.sequence].push_back(copy(output.logits));
    }
    ASSERT_FALSE(expected.empty());
    for (const auto& [fork, of_saved] : expected) EXPECT_TRUE(same_bits(logits[fork], of_saved));
  }
}

TEST(SavedTest, EmbeddingsThatArePendingAreSaved) {
  const Model model = random_model({.seed = 34, .architecture = Architecture::llama, .n_layers = 2});
  const auto d = static_cast<std::size_t>(model.config().d_model);
  std::vector<float> rows(20 * d);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = std::sin(static_cast<float>(i));
  const SessionOptions options{.policy = prune::none(), .threads = 1, .chunk = 8};
  Session session(model, options), other(model, options);
  const SequenceId one = session.add(View<const float>(rows.data(), 20, d));
  session.pass();
  const SequenceId two = other.restore(bytes_of(session.save(one))).sequence;
  EXPECT_EQ(other.tokens(two).front(), -1);
  Logits2d expected, logits;
  step_into(session, one, expected);
  step_into(other, two, logits);
  EXPECT_TRUE(same_bits(logits, expected));
}

TEST(SavedTest, DraftedTokensAreSavedAndWhatIsMarkedIsRefused) {
  const Model model = random_model({.seed = 35, .architecture = Architecture::llama, .n_layers = 3});
  const auto tokens = random_tokens(3, model.config(), 40);
  const SessionOptions options{.policy = prune::none(), .threads = 1};
  Session session(model, options), other(model, options);
  const SequenceId one = session.add(std::span(tokens).first(30));
  session.step();
  session.draft(one, tokens[30], 1);
  session.step();
  const SequenceId two = other.restore(bytes_of(session.save(one))).sequence;
  session.verify(one);
  other.verify(two);
  Logits2d expected, logits;
  step_into(session, one, expected);
  step_into(other, two, logits);
  EXPECT_TRUE(same_bits(logits, expected));

  session.mark(one);
  EXPECT_EQ(error_of([&] { session.save(one); }), ErrorCode::state);
  session.commit(one);
  session.save(one);
  std::stop_source stop;
  stop.request_stop();
  session.push(one, tokens[31]);
  EXPECT_EQ(error_of([&] { session.step(stop.get_token()); }), ErrorCode::cancelled);
  EXPECT_EQ(error_of([&] { session.save(one); }), ErrorCode::state);
}

// --- What is refused
// ---------------------------------------------------------------------------------------------------

struct Running {
  Session session;
  SequenceId sequence;
  std::vector<Token> tokens;

  Running(const Model& model, SessionOptions options)
      : session(model, std::move(options)), tokens(random_tokens(4, model.config(), 30)) {
    sequence = session.add(std::span(tokens).first(20));
    session.step();
  }

  /// The error, which leaves everything as it was.
  std::optional<ErrorCode> refuses(const std::string& saved) {
    const CacheStats before = session.stats();
    const auto error = error_of([&] { session.restore(bytes_of(saved)); });
    EXPECT_EQ(session.stats().bytes_used, before.bytes_used);
    EXPECT_EQ(session.stats().live_rows, before.live_rows);
    return error;
  }
};

TEST(SavedTest, AnotherModelPolicyOrFormatIsNamed) {
  const ModelSpec spec{.seed = 36, .architecture = Architecture::llama, .n_layers = 2};
  const Model model = random_model(spec);
  const auto message = [](Session& session, const std::string& saved) -> std::string {
    try {
      session.restore(bytes_of(saved));
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  Running origin(model, {.policy = prune::learned_gate(), .threads = 1});
  const std::string saved = origin.session.save(origin.sequence);

  ModelSpec otherwise = spec;
  otherwise.seed = 37;
  Running of_another(random_model(otherwise), {.policy = prune::learned_gate(), .threads = 1});
  EXPECT_EQ(of_another.refuses(saved), ErrorCode::model);
  // The same shape and vectors, one matrix another: the fingerprint knows.
  Weights weights = model.weights();
  std::swap(weights.layers[0].wo, weights.layers[1].wo);
  Running of_swapped(Model::create(model.config(), weights), {.policy = prune::learned_gate(), .threads = 1});
  EXPECT_EQ(of_swapped.refuses(saved), ErrorCode::model);

  Running streaming(model, {.policy = prune::streaming({.sinks = 2, .recent = 9}), .threads = 1});
  EXPECT_EQ(streaming.refuses(saved), ErrorCode::unsupported);
  EXPECT_EQ(message(streaming.session, saved), "saved sequence: policy: expected " +
                                                   streaming.session.policy().describe() + ", found " +
                                                   origin.session.policy().describe());
  Running in_f16(model, {.policy = prune::learned_gate(), .kv = KvFormat::f16, .threads = 1});
  EXPECT_EQ(in_f16.refuses(saved), ErrorCode::unsupported);
  EXPECT_EQ(message(in_f16.session, saved), "saved sequence: cache format: expected f16, found f32");
  Running gate_keys(model, {.policy = prune::learned_gate(), .gate_keys = GateKeys::f16, .threads = 1});
  EXPECT_EQ(gate_keys.refuses(saved), ErrorCode::unsupported);
  EXPECT_EQ(message(gate_keys.session, saved), "saved sequence: gate keys: expected f16, found f32");
  Running recorded(model, {.policy = prune::learned_gate(), .threads = 1, .record_drops = true});
  EXPECT_EQ(recorded.refuses(saved), ErrorCode::unsupported) << "of what was dropped there is no record";
  Session tight(model, {.policy = prune::learned_gate(), .threads = 1, .context = 19});
  EXPECT_EQ(error_of([&] { tight.restore(bytes_of(saved)); }), ErrorCode::argument);
  Session poor(model, {.policy = prune::learned_gate(), .threads = 1, .kv_budget = 64});
  EXPECT_EQ(error_of([&] { poor.restore(bytes_of(saved)); }), ErrorCode::budget);
  EXPECT_EQ(poor.stats().bytes_used, 0u);
  // A record that nobody wants is left out; another chunk and a longer context are no other sequence.
  Running again(model, {.policy = prune::learned_gate(), .threads = 1, .chunk = 3, .context = 1000});
  again.session.restore(bytes_of(recorded.session.save(recorded.sequence)));
}

TEST(SavedTest, DamageIsFoundWhereverItIs) {
  const Model model =
      random_model({.seed = 38, .architecture = Architecture::llama, .n_layers = 1, .gate = ModelSpec::Gate::no});
  Running running(model, {.policy = prune::h2o({.rows = 8, .recent = 2}), .threads = 1});
  const std::string saved = running.session.save(running.sequence);
  for (std::size_t length = 0; length < saved.size(); ++length)
    ASSERT_EQ(running.refuses(saved.substr(0, length)), ErrorCode::format) << length;
  ASSERT_EQ(running.refuses(saved + '\0'), ErrorCode::format);
  for (std::size_t at = 0; at < saved.size(); ++at)
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = saved;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      ASSERT_EQ(running.refuses(damaged), ErrorCode::format) << at;
    }
  running.session.restore(bytes_of(saved));
}

TEST(SavedTest, FilesAreWrittenAsAWhole) {
  const test::TempFolder directory;
  const auto file = directory.path() / "session";
  const Model model = random_model({.seed = 39, .architecture = Architecture::llama, .n_layers = 1});
  Running running(model, {.policy = prune::none(), .threads = 1});
  running.session.save(running.sequence, file, "first");
  running.session.save(running.sequence, file, "second");
  EXPECT_EQ(running.session.restore(file).note, "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
  EXPECT_EQ(error_of([&] { running.session.save(running.sequence, directory.path() / "none" / "there"); }),
            ErrorCode::file);
  EXPECT_EQ(error_of([&] { running.session.restore(directory.path() / "none"); }), ErrorCode::file);
  std::ofstream(directory.path() / "empty").close();
  EXPECT_EQ(error_of([&] { running.session.restore(directory.path() / "empty"); }), ErrorCode::format);
}

}  // namespace
}  // namespace pith::testing
