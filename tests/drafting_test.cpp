// SPDX-License-Identifier: MIT
// Guessing ahead changes nothing but the number of passes: tokens and log-probabilities stay, bit for bit.
#include "drafting.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "ngrams.hpp"
#include "pith/generator.hpp"
#include "pith/prune/methods.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

// --- Guesses from the text -------------------------------------------------------------------------------------------

std::vector<Token> guess(const std::vector<Token>& text, std::size_t most) {
  NGrams grams;
  grams.accept(text);
  return grams.continuation(most);
}

using Tokens = std::vector<Token>;

TEST(NGramsTest, GoOnAsTheTextDidBefore) {
  EXPECT_EQ(guess({}, 8), Tokens());
  EXPECT_EQ(guess({1}, 8), Tokens());
  EXPECT_EQ(guess({1, 2, 3, 4}, 8), Tokens());
  EXPECT_EQ(guess({1, 2, 3, 4, 5, 6, 1, 2}, 3), Tokens({3, 4, 5}));
  EXPECT_EQ(guess({1, 2, 3, 4, 5, 6, 1, 2}, 0), Tokens());
  // Three tokens tell better than two, and the latest place better than one before.
  EXPECT_EQ(guess({9, 1, 2, 3, 8, 1, 2, 4, 7, 9, 1, 2}, 1), Tokens({3}));
  EXPECT_EQ(guess({9, 1, 2, 3, 8, 1, 2, 4, 7, 7, 1, 2}, 1), Tokens({4}));
}

TEST(NGramsTest, ChainTokensThatFollowedMostOftenWhereACopyIsShorter) {
  // The copy ends with the text, the chain goes round.
  EXPECT_EQ(guess({1, 2, 1, 2, 1, 2}, 7), Tokens({1, 2, 1, 2, 1, 2, 1}));
  EXPECT_EQ(guess({1, 2, 3, 1, 2, 3, 1, 2, 4, 1, 2}, 4), Tokens({3, 1, 2, 3}));
}

TEST(NGramsTest, ForgetTheRarestFollower) {
  Tokens text;
  for (Token t = 0; t < 20; ++t) text.insert(text.end(), {1, 2, 100 + t, 50 + t});
  text.insert(text.end(), {1, 2, 119, 1, 2});
  EXPECT_EQ(guess(text, 1), Tokens({119}));
}

// --- Requests --------------------------------------------------------------------------------------------------------

/// A model that repeats itself soon, as small random ones do at temperature 0.
Model small_model(std::uint64_t seed = 5) {
  return random_model(
      {.seed = seed, .architecture = Architecture::llama, .head_dim = 16, .n_layers = 3, .context = 160});
}

Tokens repetitive(const Model& model, std::size_t count) {
  const auto some = random_tokens(6, model.config(), 9);
  Tokens text;
  while (text.size() < count) text.push_back(some[text.size() % some.size()]);
  return text;
}

Request request(const Model& model, DraftOptions draft, SamplerOptions sampler = {.temperature = 0}) {
  return {.prompt = repetitive(model, 40),
          .max_tokens = 45,
          .ends = Tokens(),
          .logprobs = 1,
          .sampler = sampler,
          .draft = draft};
}

Generation generate(const Model& model, const SessionOptions& options, Request request) {
  Generator generator(model, std::nullopt, options);
  return generator.generate(std::move(request));
}

void expect_same(const Generation& a, const Generation& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_TRUE(same_bits({a.logprobs}, {b.logprobs}));
  EXPECT_EQ(a.finish, b.finish);
}

TEST(DraftingTest, ChangesNoTokenUnderAnyPolicy) {
  const Model model = small_model();
  std::size_t accepted = 0, drafted = 0;
  for (const PolicyCase& one : policy_cases()) {
    const SessionOptions options{.policy = one.policy, .threads = 1, .chunk = 16};
    const Generation plain = generate(model, options, request(model, {}));
    EXPECT_EQ(plain.drafts.drafted, 0u);
    for (std::size_t m = 1; m <= DraftOptions::most; ++m)
      for (const std::size_t layers : {0u, 1u, 2u}) {
        SCOPED_TRACE(one.name + ", guesses: " + std::to_string(m) + ", layers: " + std::to_string(layers));
        if (layers > 0 && one.policy.needs().after_pass) continue;
        const Generation fast = generate(model, options, request(model, {.tokens = m, .layers = layers}));
        expect_same(fast, plain);
        accepted += fast.drafts.accepted;
        drafted += fast.drafts.drafted;
        EXPECT_LE(fast.drafts.accepted, fast.drafts.drafted);
      }
  }
  EXPECT_GT(accepted, drafted / 20);  // there was something to test,
  EXPECT_GT(drafted, accepted);       // of either kind
}

TEST(DraftingTest, ChangesNoTokenInAnyCacheFormatOrArchitecture) {
  for (const Architecture architecture : architectures()) {
    const Model model =
        random_model({.seed = 7, .architecture = architecture, .head_dim = 32, .n_layers = 2, .context = 160});
    SCOPED_TRACE(describe(model));
    for (const KvFormat kv : kv_formats) {
      const SessionOptions options{.kv = kv, .threads = 1, .chunk = 16};
      expect_same(generate(model, options, request(model, {.tokens = 5})),
                  generate(model, options, request(model, {})));
    }
  }
}

TEST(DraftingTest, ChangesNoTokenThatIsSampled) {
  const Model model = small_model();
  const SamplerOptions sampler{.temperature = 0.9f, .top_k = 12, .repetition_penalty = 1.1f, .seed = 4};
  for (const prune::AnyPolicy& policy : {prune::none(), prune::learned_gate(), prune::h2o({.rows = 20, .recent = 6})})
    for (const std::size_t layers : {0u, 1u}) {
      const SessionOptions options{.policy = policy, .threads = 1};
      const Generation fast = generate(model, options, request(model, {.tokens = 4, .layers = layers}, sampler));
      expect_same(fast, generate(model, options, request(model, {}, sampler)));
      EXPECT_GT(fast.drafts.drafted, 0u);
    }
}

TEST(DraftingTest, FewerPassesForWhatRepeatsItself) {
  const Model model = small_model();
  const auto passes = [&](DraftOptions draft) {
    std::size_t count = 0;
    SessionOptions options{.policy = prune::none(), .threads = 1};
    options.on_pass = [&](const PassInfo&) { ++count; };
    Request repeats = request(model, draft);
    repeats.sampler.allowed = {3};  // it can say nothing else
    generate(model, options, std::move(repeats));
    return count;
  };
  EXPECT_EQ(passes({}), 45u);
  EXPECT_LT(passes({.tokens = 8}), 12u);
}

TEST(DraftingTest, BesideRequestsThatDoNotIsAsAlone) {
  const Model model = small_model();
  for (const PolicyCase& one : policy_cases()) {
    if (one.policy.needs().after_pass) continue;  // early layers do not draft there
    SCOPED_TRACE(one.name);
    const SessionOptions options{.policy = one.policy, .threads = 1, .chunk = 16};
    const DraftOptions drafts[] = {
        {}, {.tokens = 3}, {.tokens = 8}, {}, {.tokens = 4, .layers = 1}, {.tokens = 2, .layers = 2}};
    std::map<RequestId, Generation> heard;
    std::vector<RequestId> ids;
    Generator generator(model, std::nullopt, options);
    const auto of = [&](std::size_t i) {
      Request r = request(model, drafts[i]);
      r.prompt = repetitive(model, 20 + 7 * i);
      return r;
    };
    for (std::size_t i = 0; i < std::size(drafts); ++i) {
      Request r = of(i);
      r.on_piece = [&](const Piece& piece) {
        Generation& g = heard[piece.request];
        if (piece.token) g.tokens.push_back(*piece.token);
        if (piece.logprob) g.logprobs.push_back(*piece.logprob);
        if (piece.finish) g.finish = *piece.finish;
      };
      ids.push_back(generator.submit(std::move(r)));
      generator.step();
    }
    generator.run();
    EXPECT_EQ(generator.session().stats().bytes_used, 0u);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      SCOPED_TRACE("request " + std::to_string(i));
      expect_same(heard[ids[i]], generate(model, options, of(i)));
    }
  }
}

TEST(DraftingTest, ConversationsGoOnBehindWhatWasRight) {
  const Model model = small_model();
  for (const prune::AnyPolicy& policy : {prune::none(), prune::learned_gate(), prune::h2o({.rows = 20, .recent = 6})}) {
    SCOPED_TRACE(policy.describe());
    std::vector<std::vector<Generation>> all;
    std::vector<std::size_t> lengths;
    for (const DraftOptions draft :
         {DraftOptions{}, DraftOptions{.tokens = 8}, DraftOptions{.tokens = 3, .layers = 1}}) {
      Generator generator(model, std::nullopt, {.policy = policy, .threads = 1, .chunk = 16});
      const ConversationId conversation = generator.open();
      std::vector<Generation>& turns = all.emplace_back();
      for (const std::size_t count : {20u, 11u, 15u}) {
        Request r = request(model, draft);
        r.prompt = repetitive(model, 10);
        r.max_tokens = count;
        if (!turns.empty()) r.ends = Tokens{turns[0].tokens[5]};  // soon
        r.conversation = conversation;
        turns.push_back(generator.generate(std::move(r)));
      }
      lengths.push_back(generator.length(conversation));
      generator.close(conversation);
      generator.step();
      EXPECT_EQ(generator.session().stats().bytes_used, 0u);
    }
    for (std::size_t i = 1; i < all.size(); ++i) {
      EXPECT_EQ(lengths[i], lengths[0]);
      for (std::size_t turn = 0; turn < 3; ++turn) expect_same(all[i][turn], all[0][turn]);
    }
  }
}

TEST(DraftingTest, ASequenceEndsAsIfNothingHadBeenGuessed) {
  const Model model = small_model();
  for (const std::size_t tokens : {0u, 8u}) {
    std::size_t length = 0, rows = 0;
    DraftCount drafts;
    Generator generator(model, std::nullopt, {.policy = prune::streaming({.sinks = 2, .recent = 9}), .threads = 1});
    Request r = request(model, {.tokens = tokens});
    r.on_piece = [&](const Piece& piece) {
      if (!piece.finish) return;
      length = generator.session().length(*piece.sequence);
      rows = generator.session().stats(*piece.sequence).live_rows[1];
      drafts = piece.drafts;
    };
    generator.submit(std::move(r));
    generator.run();
    EXPECT_EQ(length, 40u + 44u);  // the last token was not fed
    EXPECT_EQ(rows, 2u + 8u);
    EXPECT_EQ(drafts.drafted > 0, tokens > 0);
  }
}

TEST(DraftingTest, UnderABudgetAndToTheEndOfTheContext) {
  const Model model = small_model();
  Request r = request(model, {});
  r.max_tokens.reset();
  const SessionOptions roomy{.policy = prune::none(), .threads = 1, .chunk = 16};
  const Generation plain = generate(model, roomy, r);
  EXPECT_EQ(plain.finish, Finish::context);
  std::size_t bytes = 0;
  {
    Session session(model, roomy);
    session.add(random_tokens(1, model.config(), 160));
    session.step();
    bytes = session.stats().bytes_used;
  }
  for (const std::size_t budget : {std::size_t{0}, bytes, 2 * bytes - 1}) {
    SessionOptions options = roomy;
    options.kv_budget = budget;
    Generator generator(model, std::nullopt, options);
    std::vector<Tokens> heard(3);
    for (std::size_t i = 0; i < heard.size(); ++i) {
      Request one = r;
      one.draft.tokens = 4 * i;
      one.on_piece = [&heard, i](const Piece& piece) {
        if (piece.token) heard[i].push_back(*piece.token);
      };
      generator.submit(std::move(one));
    }
    generator.run();
    for (const Tokens& tokens : heard) EXPECT_EQ(tokens, plain.tokens) << budget;
  }
}

TEST(DraftingTest, ACancelledRequestLeavesItsConversationInOrder) {
  const Model model = small_model();
  std::vector<Generation> after;
  for (const std::size_t tokens : {0u, 8u})
    for (const std::size_t layers : {0u, 1u})
      for (const std::size_t steps : {3u, 7u}) {
        Generator generator(model, std::nullopt, {.policy = prune::none(), .threads = 1});
        const ConversationId conversation = generator.open();
        Tokens heard;
        Request r = request(model, {.tokens = tokens, .layers = layers});
        r.conversation = conversation;
        r.on_piece = [&](const Piece& piece) {
          if (piece.token) heard.push_back(*piece.token);
        };
        const RequestId id = generator.submit(std::move(r));
        for (std::size_t i = 0; i < steps; ++i) generator.step();
        generator.cancel(id);
        generator.run();
        const std::size_t length = generator.length(conversation);
        EXPECT_EQ(length, 40 + heard.size());
        Request next = request(model, {});
        next.prompt = repetitive(model, 5);
        next.conversation = conversation;
        const Generation more = generator.generate(next);
        // The same as one request whose prompt is all of it, but for the borders of chunks.
        Tokens all = repetitive(model, 40);
        all.insert(all.end(), heard.begin(), heard.end());
        const auto rest = repetitive(model, 5);
        all.insert(all.end(), rest.begin(), rest.end());
        next.prompt = all;
        next.conversation.reset();
        EXPECT_EQ(more.tokens, generate(model, {.policy = prune::none(), .threads = 1}, next).tokens);
      }
}

TEST(DraftingTest, IsRefusedByName) {
  const Model model = small_model();
  Generator generator(model, std::nullopt, {.threads = 1});
  EXPECT_EQ(error_of([&] { generator.submit(request(model, {.tokens = 9})); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { generator.submit(request(model, {.tokens = 1, .layers = 3})); }), ErrorCode::argument);
  Generator together(model, std::nullopt, {.policy = prune::layer_defensivekv(), .threads = 1});
  EXPECT_EQ(error_of([&] { together.submit(request(model, {.tokens = 1, .layers = 1})); }), ErrorCode::unsupported);
  const Model shared = random_model({.seed = 3, .n_layers = 2, .lanes = ModelSpec::Lanes::shared});
  Generator sharing(shared, std::nullopt, {.threads = 1});
  EXPECT_EQ(error_of([&] { sharing.submit(request(shared, {.tokens = 1, .layers = 1})); }), ErrorCode::unsupported);
}

}  // namespace
}  // namespace pith::testing
