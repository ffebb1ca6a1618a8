// SPDX-License-Identifier: MIT
// Requests side by side: what each gets, why it ends, and that no other request can tell the difference.
#include "pith/generator.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>

#include "pith/error.hpp"
#include "pith/prune/methods.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"
#include "support/large_key.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"
#include "text/unicode.hpp"

namespace pith::testing {
namespace {

constexpr std::uint64_t seed = 5;

Model small_model() {
  return random_model(
      {.seed = seed, .architecture = Architecture::llama, .head_dim = 16, .n_layers = 2, .context = 120});
}

std::vector<Token> some_tokens(const Model& model, std::size_t count, std::uint64_t of = seed) {
  return random_tokens(of, model.config(), count);
}

/// The shipped model, which has a tokenizer: of bytes and their merges.
std::filesystem::path bookworm() { return std::filesystem::path(PITH_MODELS_DIR) / "bookworm-1m"; }

/// What a request was told, piece by piece.
struct Heard {
  std::vector<Token> tokens;
  std::vector<float> logprobs;
  std::vector<std::string> texts;
  std::optional<Finish> finish;
  std::exception_ptr error;
  int last_pieces = 0;

  std::string text() const { return std::accumulate(texts.begin(), texts.end(), std::string()); }
  void operator()(const Piece& piece) {
    if (piece.token) tokens.push_back(*piece.token);
    if (piece.logprob) logprobs.push_back(*piece.logprob);
    texts.emplace_back(piece.text);
    if (piece.finish) ++last_pieces;
    finish = piece.finish;
    error = piece.error;
  }
};

ErrorCode code_of(const std::exception_ptr& error) {
  return error_of([&] { std::rethrow_exception(error); }).value();
}

Request listened(Request request, Heard& heard) {
  request.logprobs = 0;
  request.on_piece = std::ref(heard);
  return request;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

Heard alone(const Model& model, const SessionOptions& options, const Request& request) {
  Heard heard;
  Generator generator(model, std::nullopt, options);
  generator.submit(listened(request, heard));
  generator.run();
  return heard;
}

// --- One request -----------------------------------------------------------------------------------------------------

TEST(GeneratorTest, SaysHowBusyItIs) {
  const Model model = small_model();
  Generator generator(model, std::nullopt, {.threads = 1}, 2);
  EXPECT_EQ(generator.load().running + generator.load().waiting, 0u);
  for (int i = 0; i < 3; ++i)
    generator.submit({.prompt = some_tokens(model, 20), .max_tokens = 4, .ends = std::vector<Token>{}});
  EXPECT_EQ(generator.load().waiting, 3u);
  EXPECT_TRUE(generator.step());
  const Load busy = generator.load();
  EXPECT_EQ(busy.running, 2u);
  EXPECT_EQ(busy.waiting, 1u);
  EXPECT_EQ(busy.cache.bytes_used, generator.session().stats().bytes_used);
  EXPECT_GT(busy.cache.bytes_used, 0u);
  EXPECT_EQ(busy.cache.seen_rows, generator.session().stats().seen_rows);
  generator.run();
  const Load idle = generator.load();
  EXPECT_EQ(idle.running + idle.waiting, 0u);
  EXPECT_EQ(idle.cache.bytes_used, 0u);
  EXPECT_EQ(idle.cache.seen_rows, 0u);
}

TEST(GeneratorTest, ChoosesWhatASessionDrivenByHandWouldGive) {
  const Model model = small_model();
  const auto prompt = some_tokens(model, 30);
  const SamplerOptions sampling{.temperature = 1.3f, .top_k = 20, .repetition_penalty = 1.2f, .seed = 9};
  std::vector<Token> expected;
  std::vector<float> logprobs;
  {
    Session session(model, {.threads = 1, .chunk = 16});
    Sampler sample(sampling);
    sample.accept(prompt);
    const SequenceId id = session.add(prompt);
    while (expected.size() < 25) {
      const auto logits = session.step().front().logits;
      expected.push_back(sample(logits));
      logprobs.push_back(Logprobs(logits)[expected.back()]);
      sample.accept(expected.back());
      session.push(id, expected.back());
    }
  }
  Generator generator(model, std::nullopt, {.threads = 1, .chunk = 16});
  const Generation g = generator.generate(
      {.prompt = prompt, .max_tokens = 25, .ends = std::vector<Token>{}, .logprobs = 2, .sampler = sampling});
  EXPECT_EQ(g.tokens, expected);
  EXPECT_TRUE(same_bits(g.logprobs, logprobs));
  EXPECT_EQ(g.finish, Finish::length);
  EXPECT_EQ(g.text, "") << "there is no tokenizer";
  ASSERT_EQ(g.top.size(), 25u);
  for (std::size_t i = 0; i < g.top.size(); ++i) {
    ASSERT_EQ(g.top[i].size(), 2u);
    EXPECT_GE(g.top[i][0].logprob, g.top[i][1].logprob);
    EXPECT_GE(g.top[i][0].logprob, g.logprobs[i]);
  }
  EXPECT_EQ(generator.session().stats().bytes_used, 0u);
  EXPECT_EQ(generator.pending(), 0u);
  EXPECT_FALSE(generator.step());
}

TEST(GeneratorTest, SaysWhyItEnded) {
  const Model model = small_model();
  const auto prompt = some_tokens(model, 20);
  const SamplerOptions greedy{.temperature = 0};
  Generator generator(model, std::nullopt, {.threads = 1});
  const Generation whole = generator.generate({.prompt = prompt, .ends = std::vector<Token>{}, .sampler = greedy});
  EXPECT_EQ(whole.finish, Finish::context);
  EXPECT_EQ(whole.tokens.size(), 100u) << "prompt and tokens fill the context";

  const Token end = whole.tokens[30];
  const auto first = static_cast<std::size_t>(std::ranges::find(whole.tokens, end) - whole.tokens.begin());
  const Generation ended = generator.generate({.prompt = prompt, .ends = std::vector{end}, .sampler = greedy});
  EXPECT_EQ(ended.finish, Finish::end);
  EXPECT_EQ(ended.tokens, std::vector(whole.tokens.begin(), whole.tokens.begin() + static_cast<int>(first) + 1));

  const Generation none = generator.generate({.prompt = prompt, .max_tokens = 0, .sampler = greedy});
  EXPECT_EQ(none.finish, Finish::length);
  EXPECT_TRUE(none.tokens.empty());

  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(generator.generate({.prompt = prompt}, stop.get_token()).finish, Finish::cancelled);
  EXPECT_EQ(name(Finish::cancelled), "cancelled");
  EXPECT_EQ(generator.session().stats().bytes_used, 0u);
}

TEST(GeneratorTest, RefusesWhatCannotBe) {
  const Model model = small_model();
  Generator generator(model, std::nullopt, {.policy = prune::none(), .threads = 1});
  const auto prompt = some_tokens(model, 5);
  const auto refused = [&](Request request) { return error_of([&] { generator.submit(std::move(request)); }); };
  const Token beyond = model.config().vocab_size;
  EXPECT_EQ(refused({.prompt = std::vector<Token>{}}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = std::vector<Token>{-1}}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = std::vector<Token>{beyond}}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = std::vector<Token>(121, 1)}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = "a text"}), ErrorCode::argument) << "no tokenizer";
  EXPECT_EQ(refused({.prompt = prompt, .sampler = {.top_p = 0}}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = prompt, .sampler = {.logit_bias = {{beyond, 1}}}}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = prompt, .sampler = {.banned = {beyond}}}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = prompt, .sampler = {.allowed = {beyond}}}), ErrorCode::argument);
  EXPECT_EQ(refused({.prompt = prompt, .stops = {"x"}}), ErrorCode::argument) << "no text";
  EXPECT_EQ(refused({.prompt = prompt, .tau = 0.5f}), ErrorCode::unsupported) << "no gate";
  EXPECT_EQ(error_of([&] { Generator(model, std::nullopt, {}, 0); }), ErrorCode::argument);
  EXPECT_EQ(generator.pending(), 0u);
  Generator gated(model, std::nullopt, {.threads = 1});
  EXPECT_EQ(error_of([&] { gated.submit({.prompt = prompt, .tau = std::nanf("")}); }), ErrorCode::argument);
}

TEST(GeneratorTest, GivesTheLogitsOfAPrompt) {
  const Model model = small_model();
  const auto prompt = some_tokens(model, 50);
  const Fed expected = feed(model, prompt, {16});
  Generator generator(model, std::nullopt, {.threads = 1, .chunk = 16});
  Logits2d rows;
  Request request{.prompt = prompt, .max_tokens = 3};
  request.on_prompt = [&](SequenceId, std::size_t position, std::span<const float> logits) {
    EXPECT_EQ(position, rows.size());
    rows.push_back(copy(logits));
  };
  EXPECT_EQ(generator.generate(std::move(request)).tokens.size(), 3u);
  EXPECT_EQ(rows, expected.logits);
}

TEST(GeneratorTest, EachRequestHasAStrengthOfItsOwn) {
  const Model model = small_model();
  const auto prompt = some_tokens(model, 60);
  Generator generator(model, std::nullopt, {.threads = 1, .record_drops = true});
  std::vector<std::uint64_t> dropped;
  const auto add = [&](std::optional<float> tau) {
    generator.submit({.prompt = prompt, .max_tokens = 20, .tau = tau, .on_piece = [&](const Piece& piece) {
                        if (piece.finish) dropped.push_back(generator.session().stats(*piece.sequence).dropped_rows);
                      }});
  };
  for (const std::optional<float> tau :
       {std::optional<float>(-1e9f), std::optional<float>(), std::optional<float>(1e9f)})
    add(tau);
  generator.run();
  ASSERT_EQ(dropped.size(), 3u);
  EXPECT_EQ(dropped[0], 0u);
  EXPECT_LT(dropped[0], dropped[1]);
  EXPECT_LT(dropped[1], dropped[2]);
}

// --- Text ------------------------------------------------------------------------------------------------------------

class GeneratorText : public ::testing::Test {
 protected:
  const Model model = Model::load(bookworm());
  const Tokenizer tokenizer = Tokenizer::load(bookworm());

  Heard hear(Request request) const {
    Heard heard;
    Generator generator(model, tokenizer, {.threads = 1});
    generator.submit(listened(std::move(request), heard));
    generator.run();
    return heard;
  }
};

TEST_F(GeneratorText, IsThatOfItsTokens) {
  const std::string prompt = "The old house stood at the end of the lane, and";
  const Heard heard = hear({.prompt = prompt, .max_tokens = 40, .sampler = {.seed = 2}});
  auto tokens = tokenizer.encode(prompt);
  tokens.insert(tokens.end(), heard.tokens.begin(), heard.tokens.end());
  EXPECT_EQ(prompt + heard.text(), tokenizer.decode(tokens));
  EXPECT_EQ(heard.last_pieces, 1);
}

// Drawn almost blindly, from a vocabulary of bytes: most of it is no UTF-8, and the rest falls apart anywhere.
TEST_F(GeneratorText, ComesInWholeCharacters) {
  std::vector<Token> bytes;
  for (Token token = 0; token < tokenizer.vocab_size(); ++token)
    if (const auto piece = tokenizer.piece(token); piece.size() == 1 && static_cast<unsigned char>(piece[0]) >= 0x80)
      bytes.push_back(token);
  ASSERT_GT(bytes.size(), 100u);
  const Heard heard =
      hear({.prompt = "x", .max_tokens = 600, .sampler = {.temperature = 50, .allowed = bytes, .seed = 3}});
  for (const std::string& text : heard.texts) EXPECT_TRUE(text::is_utf8(text));
  std::vector<Token> tokens = tokenizer.encode("x");
  tokens.insert(tokens.end(), heard.tokens.begin(), heard.tokens.end());
  EXPECT_EQ("x" + heard.text(), tokenizer.decode(tokens));
  std::size_t late = 0;  // pieces that had to wait for the rest of a character
  for (const std::string& text : heard.texts) late += text.empty() ? 1u : 0u;
  EXPECT_GT(late, 20u);
}

TEST_F(GeneratorText, GoesOnInTheMiddleOfACharacter) {
  const auto byte = [&](unsigned char code) {
    for (Token token = 0; token < tokenizer.vocab_size(); ++token)
      if (tokenizer.piece(token) == std::string(1, static_cast<char>(code))) return token;
    ADD_FAILURE() << "no token for byte " << int{code};
    return Token{0};
  };
  const Heard heard =
      hear({.prompt = std::vector{byte(0xe2), byte(0x82)}, .max_tokens = 2, .sampler = {.allowed = {byte(0xac)}}});
  EXPECT_EQ(heard.texts, (std::vector<std::string>{"\xe2\x82\xac", "\xef\xbf\xbd"}));
}

TEST_F(GeneratorText, StopsBeforeAStopTextWhereverTokensMeet) {
  const Request request{
      .prompt = "Once upon a time", .max_tokens = 60, .ends = std::vector<Token>{}, .sampler = {.seed = 7}};
  const Heard whole = hear(request);
  const std::string text = whole.text();
  ASSERT_GT(text.size(), 100u);
  for (std::size_t at = 3; at + 12 < text.size(); at += 5) {
    const std::string stop = text.substr(at, 2 + at % 10);
    if (!text::is_utf8(stop)) continue;
    Request stopping = request;
    stopping.stops = {"never in this text", stop};
    const Heard heard = hear(stopping);
    EXPECT_EQ(heard.finish, Finish::stop);
    EXPECT_EQ(heard.text(), text.substr(0, text.find(stop))) << stop;
    EXPECT_TRUE(std::equal(heard.tokens.begin(), heard.tokens.end(), whole.tokens.begin()));
    EXPECT_TRUE(tokenizer.decode(heard.tokens).find(stop) != std::string::npos) << "the tokens hold it";
  }
}

TEST_F(GeneratorText, GivesWhatLookedLikeAStopTextAtTheEnd) {
  const Request request{
      .prompt = "Once upon a time", .max_tokens = 30, .ends = std::vector<Token>{}, .sampler = {.seed = 7}};
  const std::string text = hear(request).text();
  Request held = request;
  held.stops = {text.substr(text.size() - 5) + "and more that never comes"};
  const Heard heard = hear(held);
  EXPECT_EQ(heard.finish, Finish::length);
  EXPECT_EQ(heard.text(), text);
}

TEST_F(GeneratorText, OfAUserIsNoSpecialToken) {
  const Generator generator(model, tokenizer, {.threads = 1});
  std::optional<Token> special;
  for (Token token = 0; token < tokenizer.vocab_size() && !special; ++token)
    if (tokenizer.is_special(token)) special = token;
  ASSERT_TRUE(special);
  const std::string spelled = tokenizer.decode(std::span(&*special, 1), Tokenizer::Show::with_specials);
  EXPECT_EQ(std::ranges::count(generator.encode("a" + spelled), *special), 0);
  EXPECT_EQ(std::ranges::count(generator.encode("a" + spelled, Specials::as_trained), *special), 1);
  EXPECT_EQ(generator.encode("").size(), 1u) << "an empty text begins one";
}

// Qwen's models have some hundred ids more than their tokenizer.
TEST(GeneratorTest, IdsBeyondTheTokenizerStandForNoText) {
  const test::TempFolder folder;
  nlohmann::json vocabulary;
  for (char c = '!'; c <= '~'; ++c) vocabulary[std::string(1, c)] = c - '!';
  folder.write("merges.txt", "#version: 0.2\n");
  const Tokenizer tokenizer = Tokenizer::load(folder.write("vocab.json", vocabulary.dump()));
  const Model model = Model::load(golden("llama-gated").path);
  ASSERT_GT(model.config().vocab_size, tokenizer.vocab_size());
  Generator generator(model, tokenizer, {.threads = 1});
  const Token beyond = model.config().vocab_size - 1, known = *tokenizer.id("x");
  const Generation g = generator.generate({.prompt = std::vector{beyond, known},
                                           .max_tokens = 40,
                                           .ends = std::vector<Token>{},
                                           .sampler = {.temperature = 100, .allowed = {beyond, known}, .seed = 1}});
  const auto xs = static_cast<std::size_t>(std::ranges::count(g.tokens, known));
  EXPECT_GT(xs, 0u);
  EXPECT_LT(xs, 40u);
  EXPECT_EQ(g.text, std::string(xs, 'x'));
}

TEST_F(GeneratorText, BiasBansAndPermissionsHold) {
  const Request request{.prompt = "Once upon a time", .max_tokens = 30, .sampler = {.temperature = 0}};
  const std::vector<Token> free = hear(request).tokens;

  Request banned = request;
  banned.sampler.banned = {free[0], free[3]};
  for (const Token token : hear(banned).tokens) EXPECT_EQ(std::ranges::count(banned.sampler.banned, token), 0);

  Request allowed = request;
  allowed.sampler.temperature = 20;
  allowed.sampler.allowed = {free[2], free[5]};
  for (const Token token : hear(allowed).tokens)
    EXPECT_EQ(std::ranges::count(allowed.sampler.allowed, token) > 0, true);

  Request biased = request;
  biased.sampler.logit_bias = {{free[4], 1000.0f}};
  biased.ends = std::vector<Token>{};
  EXPECT_EQ(hear(biased).tokens, std::vector<Token>(30, free[4]));

  Request frequency = biased;
  frequency.sampler.frequency_penalty = 600;  // once is worth it, twice is not
  const auto counted = hear(frequency).tokens;
  EXPECT_EQ(std::ranges::count(counted, free[4]), 2) << "1000 - 600 still wins, 1000 - 1200 does not";
}

// --- Errors of one are its own ---------------------------------------------------------------------------------------

TEST(GeneratorTest, AnErrorOfOneRequestIsItsOwn) {
  const Model model = small_model();
  const SessionOptions options{.threads = 1, .chunk = 16};
  std::vector<Token> everything(static_cast<std::size_t>(model.config().vocab_size));
  std::iota(everything.begin(), everything.end(), 0);
  const Request good{.prompt = some_tokens(model, 40), .max_tokens = 30, .sampler = {.seed = 1}};
  const Heard expected = alone(model, options, good);

  Generator generator(model, std::nullopt, options);
  Heard first, impossible, last;
  generator.submit(listened(good, first));
  generator.submit(listened({.prompt = some_tokens(model, 7), .sampler = {.banned = everything}}, impossible));
  int calls = 0;
  std::exception_ptr came_back;
  generator.submit({.prompt = some_tokens(model, 20), .on_piece = [&](const Piece& piece) {
                      if (piece.finish) {
                        EXPECT_EQ(piece.finish, Finish::error);
                        came_back = piece.error;
                        throw std::runtime_error("again");
                      }
                      if (++calls == 3) throw std::runtime_error("the host's own");
                    }});
  int ends = 0;
  generator.submit({.prompt = some_tokens(model, 9), .max_tokens = 2, .on_piece = [&](const Piece& piece) {
                      if (piece.finish && ++ends == 1) throw std::runtime_error("in the last piece");
                      if (ends == 2) {
                        EXPECT_EQ(piece.finish, Finish::error);
                      }
                    }});
  Request prompt_throws{.prompt = some_tokens(model, 30)};
  prompt_throws.on_prompt = [](SequenceId, std::size_t position, std::span<const float>) {
    if (position == 20) throw std::runtime_error("the prompt's");
  };
  generator.submit(std::move(prompt_throws));
  generator.submit(listened(good, last));
  generator.run();

  for (const Heard* heard : {&first, &last}) {
    EXPECT_EQ(heard->tokens, expected.tokens);
    EXPECT_TRUE(same_bits(heard->logprobs, expected.logprobs));
    EXPECT_EQ(heard->finish, Finish::length);
  }
  EXPECT_EQ(impossible.finish, Finish::error);
  EXPECT_EQ(code_of(impossible.error), ErrorCode::argument);
  EXPECT_EQ(calls, 3);
  EXPECT_THROW(std::rethrow_exception(came_back), std::runtime_error);
  EXPECT_EQ(ends, 2);
  EXPECT_EQ(generator.pending(), 0u);
  EXPECT_EQ(generator.session().stats().bytes_used, 0u);
}

TEST(GeneratorTest, GenerateThrowsWhatTheRequestEndedIn) {
  const Model model = small_model();
  Generator generator(model, std::nullopt, {.threads = 1});
  Request throwing{.prompt = some_tokens(model, 9)};
  throwing.on_piece = [](const Piece&) { throw std::runtime_error("the host's own"); };
  EXPECT_THROW(generator.generate(throwing), std::runtime_error);
  EXPECT_EQ(generator.generate({.prompt = some_tokens(model, 9), .max_tokens = 4}).tokens.size(), 4u);
}

TEST(GeneratorTest, CallbacksSubmitAndCancelButDoNotStep) {
  const Model model = small_model();
  Generator generator(model, std::nullopt, {.threads = 1});
  const auto prompt = some_tokens(model, 10);
  Heard second, cancelled;
  std::optional<RequestId> other;
  std::vector<std::optional<ErrorCode>> codes;
  generator.submit({.prompt = prompt, .max_tokens = 5, .on_piece = [&](const Piece& piece) {
                      if (piece.finish) generator.submit(listened({.prompt = prompt, .max_tokens = 3}, second));
                      if (other) generator.cancel(*other);
                      codes.push_back(error_of([&] { generator.step(); }));
                      codes.push_back(error_of([&] { generator.generate({.prompt = prompt}); }));
                    }});
  other = generator.submit(listened({.prompt = prompt}, cancelled));
  generator.run();
  EXPECT_EQ(second.tokens.size(), 3u);
  EXPECT_EQ(cancelled.finish, Finish::cancelled);
  EXPECT_EQ(codes, std::vector<std::optional<ErrorCode>>(10, ErrorCode::state));
}

TEST(GeneratorTest, WhatTheSessionThrowsLosesNothing) {
  const Model model = small_model();
  const Request request{.prompt = some_tokens(model, 40), .max_tokens = 30, .sampler = {.seed = 4}};
  const Heard expected = alone(model, {.threads = 1, .chunk = 16}, request);
  SessionOptions options{.threads = 1, .chunk = 16};
  int passes = 0;
  options.on_pass = [&](const PassInfo&) {
    if (++passes % 3 == 0) throw std::runtime_error("the host's own");
  };
  Generator generator(model, std::nullopt, std::move(options));
  Heard heard;
  generator.submit(listened(request, heard));
  int thrown = 0;
  for (bool more = true; more;) try {
      more = generator.step();
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  EXPECT_GT(thrown, 5);
  EXPECT_EQ(heard.tokens, expected.tokens);
  EXPECT_TRUE(same_bits(heard.logprobs, expected.logprobs));
}

// --- Stopping --------------------------------------------------------------------------------------------------------

/// Calls something between two layers of passes.
struct Within {
  std::function<void(const prune::Moment&)> call;

  prune::Needs needs() const { return {}; }
  void before_attention(const KvLayer& layer, const prune::Moment& moment) const {
    if (layer.layer() == 0) call(moment);
  }
};

TEST(GeneratorTest, GoesOnAfterAStop) {
  const Model model = small_model();
  const Request request{.prompt = some_tokens(model, 50), .max_tokens = 20, .sampler = {.seed = 4}};
  const Heard expected = alone(model, {.policy = prune::none(), .threads = 1, .chunk = 16}, request);
  std::optional<std::stop_source> stop;
  int layers = 0;
  const Within interrupts{[&](const prune::Moment&) {
    if (++layers % 5 == 0) stop->request_stop();
  }};
  Generator generator(model, std::nullopt, {.policy = interrupts, .threads = 1, .chunk = 16});
  Heard heard;
  generator.submit(listened(request, heard));
  int stops = 0;
  while (generator.pending() > 0) {
    stop.emplace();
    generator.run(stop->get_token());
    ++stops;
  }
  EXPECT_GT(stops, 4);
  EXPECT_EQ(heard.tokens, expected.tokens);
  EXPECT_TRUE(same_bits(heard.logprobs, expected.logprobs));
}

TEST(GeneratorTest, CancelsInTheMiddleOfAPass) {
  const Model model = small_model();
  const Request request{.prompt = some_tokens(model, 40), .max_tokens = 20, .sampler = {.seed = 4}};
  const Heard expected = alone(model, {.policy = prune::none(), .threads = 1, .chunk = 64}, request);
  Generator* there = nullptr;
  std::optional<RequestId> victim;
  const Within cancels{[&](const prune::Moment& moment) {
    if (moment.next == 60 && victim) there->cancel(*victim);
  }};
  Generator generator(model, std::nullopt, {.policy = cancels, .threads = 1, .chunk = 64});
  there = &generator;
  Heard stays, goes, waits;
  generator.submit(listened(request, stays));
  // 60 tokens: reached by its prompt at once, and by the other one in its last steps.
  victim = generator.submit(listened({.prompt = some_tokens(model, 60)}, goes));
  const RequestId unseen = generator.submit(listened({.prompt = some_tokens(model, 3)}, waits));
  generator.cancel(unseen);
  generator.run();
  EXPECT_EQ(goes.finish, Finish::cancelled);
  EXPECT_TRUE(goes.tokens.empty()) << "the pass of its prompt was not finished for it";
  EXPECT_EQ(waits.finish, Finish::cancelled);
  EXPECT_EQ(stays.tokens, expected.tokens);
  EXPECT_TRUE(same_bits(stays.logprobs, expected.logprobs));
  generator.cancel(unseen);  // long ended
  generator.cancel(RequestId{999});
  EXPECT_EQ(waits.last_pieces, 1);
}

// Of a conversation whose request was cancelled in a pass, which another cancelled request then stops once more.
TEST(GeneratorTest, SavesAndCompressesWhateverStopsThePassInWork) {
  const Model model = small_model();
  std::stop_source stop;
  const Within interrupts{[&](const prune::Moment&) { stop.request_stop(); }};
  const SessionOptions options{.policy = interrupts, .threads = 1, .chunk = 32};
  const test::TempFolder folder;
  const auto file = folder.path() / "conversation";
  const auto check = [&](auto&& call) {
    Generator generator(model, std::nullopt, options);
    Heard heard, other;
    stop = std::stop_source();
    Request request{.prompt = some_tokens(model, 20), .max_tokens = 5, .ends = std::vector<Token>{}};
    request.conversation = generator.open();
    const RequestId first = generator.submit(listened(request, heard));
    const RequestId second = generator.submit(listened({.prompt = some_tokens(model, 9)}, other));
    generator.step(stop.get_token());
    generator.cancel(first);
    generator.step(stop.get_token());  // sees to that alone
    EXPECT_EQ(heard.finish, Finish::cancelled);
    generator.cancel(second);
    call(generator, *request.conversation);
    EXPECT_EQ(other.finish, Finish::cancelled);
    return generator.generate(request).tokens;
  };
  const auto expected = check([](Generator& generator, ConversationId) { generator.step(); });
  EXPECT_EQ(expected.size(), 5u);
  EXPECT_EQ(check([&](Generator& generator, ConversationId conversation) { generator.save(conversation, file); }),
            expected);
  check([](Generator& generator, ConversationId conversation) { generator.compress(conversation, {}); });
  Generator again(model, std::nullopt, options);
  Request request{.prompt = some_tokens(model, 20), .max_tokens = 5, .ends = std::vector<Token>{}};
  request.conversation = again.restore(file).first;
  EXPECT_EQ(again.generate(request).tokens, expected);
}

// --- Budget ----------------------------------------------------------------------------------------------------------

std::size_t bytes_of(const Model& model, std::size_t tokens) {
  Session session(model, {.policy = prune::none(), .threads = 1, .context = 1000});
  const SequenceId sequence = session.add(some_tokens(model, tokens));
  session.step();
  return session.stats(sequence).bytes_used;
}

TEST(GeneratorTest, RequestsWaitForRoom) {
  const Model model = small_model();
  SessionOptions options{.policy = prune::none(), .threads = 1, .chunk = 32};
  std::vector<Request> requests;
  std::vector<Heard> expected;
  for (std::uint64_t i = 0; i < 8; ++i) {
    requests.push_back({.prompt = some_tokens(model, 10 + 9 * i, i), .max_tokens = 40, .sampler = {.seed = i}});
    expected.push_back(alone(model, options, requests.back()));
  }
  for (const std::size_t room : {120u, 200u}) {  // tokens: for one of them; for two or three
    options.kv_budget = bytes_of(model, room);
    Generator generator(model, std::nullopt, options);
    std::vector<Heard> heard(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) generator.submit(listened(requests[i], heard[i]));
    generator.run();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE("request " + std::to_string(i));
      EXPECT_EQ(heard[i].tokens, expected[i].tokens);
      EXPECT_TRUE(same_bits(heard[i].logprobs, expected[i].logprobs));
      EXPECT_EQ(heard[i].last_pieces, 1);
    }
    EXPECT_LE(generator.session().stats().bytes_high_water, options.kv_budget);
    EXPECT_EQ(generator.session().stats().bytes_used, 0u);
  }
}

TEST(GeneratorTest, WhatNeverFitsEndsInAnError) {
  const Model model = small_model();
  const SessionOptions options{.policy = prune::none(), .threads = 1, .chunk = 32, .kv_budget = bytes_of(model, 64)};
  const Request fits{.prompt = some_tokens(model, 20), .max_tokens = 30, .sampler = {.seed = 3}};
  const Heard expected = alone(model, options, fits);
  ASSERT_EQ(expected.finish, Finish::length);
  Generator generator(model, std::nullopt, options);
  Heard before, prompt, growing, after;
  generator.submit(listened(fits, before));
  generator.submit(listened({.prompt = some_tokens(model, 100)}, prompt));
  generator.submit(listened({.prompt = some_tokens(model, 40), .ends = std::vector<Token>{}}, growing));
  generator.submit(listened(fits, after));
  generator.run();
  for (const Heard* heard : {&prompt, &growing}) {
    EXPECT_EQ(heard->finish, Finish::error);
    EXPECT_EQ(code_of(heard->error), ErrorCode::budget);
    EXPECT_EQ(heard->last_pieces, 1);
  }
  EXPECT_EQ(growing.tokens.size(), 64u - 40u + 1u) << "what it had until then is not lost";
  for (const Heard* heard : {&before, &after}) {
    EXPECT_EQ(heard->tokens, expected.tokens);
    EXPECT_TRUE(same_bits(heard->logprobs, expected.logprobs));
  }
}

// --- Conversations ---------------------------------------------------------------------------------------------------

/// What a conversation's requests are to give, by a session that is fed by hand.
struct ByHand {
  ByHand(const Model& model, const SessionOptions& options) : session(model, options) {}

  Heard say(const Request& request, std::size_t pinned = 0) {
    Heard heard;
    const auto& prompt = std::get<std::vector<Token>>(request.prompt);
    if (last && heard_finish != Finish::end) {
      session.push(*sequence, *last, Logits::none);
      session.step();  // before the strength changes
    }
    if (sequence)
      session.prompt(*sequence, prompt);
    else
      sequence = session.add(prompt);
    if (request.tau) session.set_tau(*sequence, *request.tau);
    std::vector<Position> kept;
    for (std::size_t i = 0; i < pinned; ++i) kept.push_back(static_cast<Position>(i));
    session.keep(*sequence, kept);
    history.insert(history.end(), prompt.begin(), prompt.end());
    Sampler sample(request.sampler);
    sample.accept(history);
    last.reset();
    while (!heard.finish) {
      if (last) session.push(*sequence, *last);
      const auto logits = session.step().front().logits;
      last = sample(logits);
      sample.accept(*last);
      heard.tokens.push_back(*last);
      heard.logprobs.push_back(Logprobs(logits)[*last]);
      if (std::ranges::count(*request.ends, *last) > 0)
        heard.finish = Finish::end;
      else if (heard.tokens.size() == *request.max_tokens)
        heard.finish = Finish::length;
      if (heard.finish != Finish::end) history.push_back(*last);
    }
    heard_finish = heard.finish;
    return heard;
  }

  Session session;
  std::optional<SequenceId> sequence;
  std::optional<Token> last;  // chosen
  std::optional<Finish> heard_finish;
  std::vector<Token> history;
};

std::vector<Request> some_turns(const Model& model, Random& random, std::size_t count) {
  std::vector<Request> turns;
  for (std::size_t i = 0; i < count; ++i)
    turns.push_back({.prompt = some_tokens(model, static_cast<std::size_t>(random.integer(1, 12)), i),
                     .max_tokens = static_cast<std::size_t>(random.integer(1, 8)),
                     .ends = std::vector<Token>{3, 9, 20},
                     .sampler = {.temperature = 1.2f, .repetition_penalty = 1.1f, .seed = i}});
  return turns;
}

TEST(GeneratorTest, AConversationIsWhatASessionFedByHandGives) {
  const Model model = small_model();
  for (const PolicyCase& one : policy_cases()) {
    SCOPED_TRACE(one.name);
    const SessionOptions options{.policy = one.policy, .threads = 1, .chunk = 5, .record_drops = true};
    Random random(7);
    std::vector<Request> turns = some_turns(model, random, 7);
    if (one.policy.needs().gate) turns[3].tau = 0.7f;
    ByHand by_hand(model, options);
    Generator generator(model, std::nullopt, options);
    const ConversationId conversation = generator.open();
    EXPECT_EQ(generator.length(conversation), 0u);
    std::set<Finish> ways;
    for (std::size_t i = 0; i < turns.size(); ++i) {
      SCOPED_TRACE("turn " + std::to_string(i));
      const std::size_t pinned = i == 0 ? std::min<std::size_t>(2, std::get<0>(turns[0].prompt).size()) : 0;
      const Heard expected = by_hand.say(turns[i], pinned);
      Heard heard;
      Request request = turns[i];
      request.conversation = conversation;
      request.pinned = pinned;
      generator.submit(listened(request, heard));
      generator.run();
      EXPECT_EQ(heard.tokens, expected.tokens);
      EXPECT_TRUE(same_bits(heard.logprobs, expected.logprobs));
      EXPECT_EQ(heard.finish, expected.finish);
      EXPECT_EQ(generator.length(conversation), by_hand.history.size());
      ways.insert(*heard.finish);
    }
    EXPECT_GT(generator.session().stats().bytes_used, 0u);
    generator.close(conversation);
    generator.step();
    EXPECT_EQ(generator.session().stats().bytes_used, 0u);
  }
}

TEST(GeneratorTest, AConversationIsOneTextInPieces) {
  const Model model = small_model();
  Random random(3);
  Generator generator(model, std::nullopt, {.threads = 1, .chunk = 16});
  const ConversationId conversation = generator.open();
  std::vector<Token> whole;
  std::map<std::size_t, std::vector<float>> rows;  // of positions
  for (Request& request : some_turns(model, random, 6)) {
    const std::size_t begin = whole.size();
    const auto& prompt = std::get<std::vector<Token>>(request.prompt);
    whole.insert(whole.end(), prompt.begin(), prompt.end());
    request.conversation = conversation;
    request.on_prompt = [&](SequenceId, std::size_t position, std::span<const float> row) {
      EXPECT_GE(position, begin);
      rows[position] = copy(row);
    };
    request.on_piece = [&](const Piece& piece) {
      rows[whole.size() - 1] = copy(piece.logits);
      if (piece.finish != Finish::end) whole.push_back(*piece.token);
    };
    generator.generate(request);
  }
  const Fed expected = feed(model, whole, {256});
  EXPECT_GT(rows.size(), 40u);
  for (const auto& [position, row] : rows)
    EXPECT_LT(relative_error(Logits2d{row}, Logits2d{expected.logits[position]}), 1e-5) << position;
}

// Whatever else runs, however little memory there is, and wherever a request was cancelled.
TEST(GeneratorTest, AConversationIsWhatItIsAlone) {
  const Model model = small_model();
  for (const PolicyCase& one : policy_cases()) {
    for (std::uint64_t chance = 1; chance <= 3; ++chance) {
      SCOPED_TRACE(one.name + ", chance " + std::to_string(chance));
      Random random(chance);
      SessionOptions options{.policy = one.policy, .threads = 1, .chunk = random.integer(3, 20)};
      if (chance > 1) options.kv_budget = bytes_of(model, chance == 2 ? 260 : 128);
      constexpr std::size_t talks = 4, count = 5;
      std::vector<std::vector<Request>> turns;
      std::vector<std::vector<Heard>> expected(talks), heard(talks);
      for (std::size_t t = 0; t < talks; ++t) {
        turns.push_back(some_turns(model, random, count));
        ByHand by_hand(model, options);
        for (const Request& turn : turns[t]) expected[t].push_back(by_hand.say(turn));
        heard[t].resize(count);
      }
      Generator generator(model, std::nullopt, options, 3);
      std::vector<ConversationId> ids;
      std::vector<std::size_t> next(talks, 0);
      for (std::size_t t = 0; t < talks; ++t) ids.push_back(generator.open());
      const auto submit = [&](std::size_t t) {
        Request request = turns[t][next[t]];
        request.conversation = ids[t];
        generator.submit(listened(request, heard[t][next[t]++]));
      };
      Heard other;
      for (int round = 0; round < 4000; ++round) {
        const auto t = static_cast<std::size_t>(random.integer(0, talks - 1));
        const bool ready = next[t] == 0 || heard[t][next[t] - 1].finish.has_value();
        if (next[t] < count && ready && random.integer(0, 5) == 0) submit(t);
        if (random.integer(0, 60) == 0) {
          const RequestId id = generator.submit({.prompt = some_tokens(model, 40), .max_tokens = 5});
          for (int i = random.integer(0, 4); i > 0; --i) generator.step();
          generator.cancel(id);
        }
        generator.step();
      }
      generator.run();
      for (std::size_t t = 0; t < talks; ++t)
        for (std::size_t i = 0; i < count; ++i) {
          SCOPED_TRACE("talk " + std::to_string(t) + ", turn " + std::to_string(i));
          EXPECT_EQ(heard[t][i].finish, expected[t][i].finish);
          EXPECT_EQ(heard[t][i].tokens, expected[t][i].tokens);
          EXPECT_TRUE(same_bits(heard[t][i].logprobs, expected[t][i].logprobs));
        }
    }
  }
}

TEST(GeneratorTest, AConversationGoesOnAfterACancelledRequest) {
  const Model model = small_model();
  const SessionOptions options{.policy = prune::none(), .threads = 1, .chunk = 8};
  for (const int layers : {1, 2, 3, 9, 12, 15, 20}) {  // of passes, before it is cancelled
    SCOPED_TRACE(layers);
    int seen = 0;
    Generator* there = nullptr;
    std::optional<RequestId> victim;
    struct Every {
      std::function<void()> call;
      prune::Needs needs() const { return {}; }
      void before_attention(const KvLayer&, const prune::Moment&) const { call(); }
    };
    const Every cancels{[&] {
      if (++seen == layers && victim) there->cancel(*victim);
    }};
    SessionOptions watched = options;
    watched.policy = cancels;
    Generator generator(model, std::nullopt, watched);
    there = &generator;
    const ConversationId conversation = generator.open();
    const auto first = some_tokens(model, 30, 1), second = some_tokens(model, 10, 2);
    Heard heard, after;
    Request request{.prompt = first, .max_tokens = 20, .ends = std::vector<Token>{}, .sampler = {.seed = 1}};
    request.conversation = conversation;
    victim = generator.submit(listened(request, heard));
    generator.run();
    EXPECT_EQ(heard.finish, Finish::cancelled);
    EXPECT_EQ(generator.length(conversation), 30 + heard.tokens.size());
    request.prompt = second;
    request.max_tokens = 6;
    generator.submit(listened(request, after));
    generator.run();

    Session session(model, options);
    const SequenceId sequence = session.add(first);
    session.step();
    for (const Token token : heard.tokens) {
      session.push(sequence, token);
      session.step();
    }
    session.prompt(sequence, second);
    std::vector<float> logprobs;
    for (const Token token : after.tokens) {
      logprobs.push_back(Logprobs(session.step().front().logits)[token]);
      session.push(sequence, token);
    }
    EXPECT_EQ(after.tokens.size(), 6u);
    EXPECT_TRUE(same_bits(after.logprobs, logprobs));
  }
}

TEST(GeneratorTest, AConversationForgetsARequestThatFailed) {
  const Model model = small_model();
  const SessionOptions options{.threads = 1, .chunk = 8};
  std::vector<Token> everything(static_cast<std::size_t>(model.config().vocab_size));
  std::iota(everything.begin(), everything.end(), 0);
  Random random(1);
  const std::vector<Request> turns = some_turns(model, random, 2);
  ByHand by_hand(model, options);
  Generator generator(model, std::nullopt, options);
  const ConversationId conversation = generator.open();
  for (const Request& turn : turns) {
    const Heard expected = by_hand.say(turn);
    Request request = turn;
    request.conversation = conversation;
    Heard heard;
    generator.submit(listened(request, heard));
    generator.run();
    EXPECT_EQ(heard.tokens, expected.tokens);
    EXPECT_TRUE(same_bits(heard.logprobs, expected.logprobs));
    request.sampler.banned = everything;
    EXPECT_EQ(error_of([&] { generator.generate(request); }), ErrorCode::argument);
    EXPECT_EQ(generator.length(conversation), by_hand.history.size());
  }
}

TEST(GeneratorTest, RefusesWhatNoConversationCanDo) {
  const Model model = small_model();
  Generator generator(model, std::nullopt, {.policy = prune::none(), .threads = 1});
  const ConversationId conversation = generator.open();
  Request request{.prompt = some_tokens(model, 50), .max_tokens = 4};
  request.conversation = conversation;
  const RequestId id = generator.submit(request);
  const auto refused = [&](auto&& f) { return error_of(f); };
  EXPECT_EQ(refused([&] { generator.submit(request); }), ErrorCode::state) << "one at a time";
  EXPECT_EQ(refused([&] { generator.length(conversation); }), ErrorCode::state);
  EXPECT_EQ(refused([&] { generator.close(conversation); }), ErrorCode::state);
  generator.cancel(id);
  generator.run();
  EXPECT_EQ(generator.length(conversation), 50u) << "what it was given, it has";
  request.prompt = some_tokens(model, 71);
  EXPECT_EQ(refused([&] { generator.submit(request); }), ErrorCode::argument) << "50 + 71 are more than 120";
  request.pinned = 72;
  EXPECT_EQ(refused([&] { generator.submit(request); }), ErrorCode::argument);
  generator.close(conversation);
  EXPECT_EQ(refused([&] { generator.length(conversation); }), ErrorCode::state) << "closed";
  EXPECT_EQ(refused([&] { generator.length(ConversationId{99}); }), ErrorCode::argument) << "never opened";
}

// --- The law ---------------------------------------------------------------------------------------------------------

// Whenever requests come, whichever are cancelled, however little memory there is: each is what it is alone.
TEST(GeneratorTest, ARequestIsWhatItIsAlone) {
  const Model model = small_model();
  for (const PolicyCase& one : policy_cases()) {
    for (std::uint64_t chance = 1; chance <= 3; ++chance) {
      Random random(chance);
      SessionOptions options{.policy = one.policy, .threads = 1, .chunk = random.integer(7, 40)};
      if (chance > 1) options.kv_budget = bytes_of(model, chance == 2 ? 150 : 64);
      SCOPED_TRACE(one.name + ", chance " + std::to_string(chance));
      std::vector<Request> requests;
      for (std::uint64_t i = 0; i < 12; ++i)
        requests.push_back({.prompt = some_tokens(model, static_cast<std::size_t>(random.integer(1, 80)), i),
                            .max_tokens = static_cast<std::size_t>(random.integer(1, 30)),
                            .sampler = {.temperature = random.integer(0, 1) == 0 ? 0.0f : 1.5f,
                                        .repetition_penalty = 1.1f,
                                        .frequency_penalty = 0.1f,
                                        .seed = i}});

      Generator generator(model, std::nullopt, options, static_cast<std::size_t>(random.integer(2, 8)));
      std::vector<Heard> heard(requests.size());
      std::map<std::size_t, RequestId> running;
      std::size_t next = 0, cancelled = 0;
      while (next < requests.size() || generator.pending() > 0) {
        if (next < requests.size() && random.integer(0, 3) == 0) {
          running[next] = generator.submit(listened(requests[next], heard[next]));
          ++next;
        }
        if (!running.empty() && random.integer(0, 40) == 0) {
          generator.cancel(running.begin()->second);
          running.erase(running.begin());
        }
        generator.step();
      }
      for (std::size_t i = 0; i < requests.size(); ++i) {
        SCOPED_TRACE("request " + std::to_string(i));
        ASSERT_TRUE(heard[i].finish);
        const Heard expected = alone(model, options, requests[i]);
        if (heard[i].finish == Finish::cancelled) {
          ++cancelled;
          ASSERT_LE(heard[i].tokens.size(), expected.tokens.size());
          EXPECT_TRUE(std::equal(heard[i].tokens.begin(), heard[i].tokens.end(), expected.tokens.begin()));
        } else {
          EXPECT_EQ(heard[i].finish, expected.finish);
          EXPECT_EQ(heard[i].tokens, expected.tokens);
          EXPECT_TRUE(same_bits(heard[i].logprobs, expected.logprobs));
        }
      }
      EXPECT_LT(cancelled, requests.size());
      EXPECT_EQ(generator.session().stats().bytes_used, 0u);
    }
  }
}

// --- The end ---------------------------------------------------------------------------------------------------------

TEST(GeneratorTest, EndsWithRequestsOnTheirWay) {
  Heard heard;
  const Model model = small_model();
  {
    Generator generator(model, std::nullopt, {.threads = 1});
    generator.submit(listened({.prompt = some_tokens(model, 20)}, heard));
    for (int i = 0; i < 5; ++i) generator.step();
    Generator moved(std::move(generator));
    moved.step();
  }
  EXPECT_EQ(heard.tokens.size(), 6u);
  EXPECT_FALSE(heard.finish);
}

class LargeKeyTest : public ::testing::TestWithParam<ModelSpec::Gate> {};

TEST_P(LargeKeyTest, EndsItsOwnRequest) {
  const Model model = model_with_a_large_key(GetParam());
  SessionOptions options{.kv = KvFormat::f16, .threads = 1};
  if (model.config().gate) options.policy = prune::learned_gate();
  const std::vector<Token> harmless = {1, 2, 3}, harmful = {1, too_large, 3};
  const auto request = [](const std::vector<Token>& prompt, Heard& heard) {
    Request r{.prompt = prompt, .max_tokens = 5, .ends = std::vector<Token>{}};
    r.sampler.temperature = 0;
    r.sampler.banned = {too_large};
    r.on_piece = std::ref(heard);
    return r;
  };
  Heard alone, beside, ended;
  Generator one(model, {}, options);
  one.submit(request(harmless, alone));
  one.run();
  Generator both(model, {}, options);
  both.submit(request(harmless, beside));
  both.submit(request(harmful, ended));
  both.run();
  ASSERT_EQ(alone.finish, Finish::length);
  EXPECT_EQ(beside.finish, Finish::length);
  EXPECT_EQ(beside.tokens, alone.tokens);
  ASSERT_EQ(ended.finish, Finish::error);
  try {
    std::rethrow_exception(ended.error);
  } catch (const SequenceError& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(error.what()).find("layer 0, keys in a cache of f16"), std::string::npos) << error.what();
  }
  EXPECT_EQ(both.pending(), 0u);
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutGates, LargeKeyTest,
                         ::testing::Values(ModelSpec::Gate::no, ModelSpec::Gate::yes));

}  // namespace
}  // namespace pith::testing
