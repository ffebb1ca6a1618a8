// SPDX-License-Identifier: MIT
// Conversations: what is fed for each message, what is pinned, and what happens where there is no room.
#include "pith/chat.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "pith/error.hpp"
#include "pith/prune/methods.hpp"
#include "support/errors.hpp"
#include "support/policies.hpp"

namespace pith::testing {
namespace {

// The shipped model knows nothing of conversations, but it has a tokenizer, and weights that are no noise.
const std::filesystem::path bookworm = std::filesystem::path(PITH_MODELS_DIR) / "bookworm-1m";

const std::string lines =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% "
    "endif %}";

class ChatTest : public ::testing::Test {
 protected:
  const Model model = Model::load(bookworm);
  const Tokenizer tokenizer = Tokenizer::load(bookworm);

  std::vector<Token> fed;  // all of it, in order, starting anew with each reading from the beginning

  SessionOptions watched(SessionOptions options = {}) {
    options.threads = 1;
    options.on_pass = [this](const PassInfo& pass) {
      if (pass.first == 0) fed.clear();
      fed.insert(fed.end(), pass.tokens.begin(), pass.tokens.end());
    };
    return options;
  }

  Chat chat(SessionOptions options = {}, const std::string& form = lines) {
    return {model, tokenizer, watched(std::move(options)), ChatTemplate::parse(form)};
  }

  std::string fed_text() const { return tokenizer.decode(fed, Tokenizer::Show::with_specials); }

  static Request how(std::size_t tokens, std::uint64_t seed = 1) {
    return {.max_tokens = tokens, .ends = std::vector<Token>{}, .sampler = {.seed = seed}};
  }
};

TEST_F(ChatTest, FeedsEachMessageOnce) {
  Chat talk = chat();
  talk.set_system("You are a lighthouse.");
  std::vector<Token> expected;
  const std::vector<std::string> said = {"Who are you?", "And at night?", "I see. Good night, then!"};
  std::vector<std::string> answers;
  for (std::size_t i = 0; i < said.size(); ++i) {
    std::string streamed;
    Request request = how(12, i);
    request.on_piece = [&](const Piece& piece) {
      streamed += piece.text;
      EXPECT_FALSE(piece.finish);
    };
    const Answer answer = talk.say(said[i], request);
    EXPECT_EQ(answer.generation.finish, Finish::length);
    EXPECT_EQ(answer.generation.tokens.size(), 12u);
    EXPECT_EQ(answer.generation.text, streamed);
    EXPECT_EQ(answer.readings, i == 0 ? 1u : 0u);
    const std::string text = i == 0 ? "system: You are a lighthouse.\nuser: " + said[0] + "\nassistant: "
                                    : "\nuser: " + said[i] + "\nassistant: ";
    const std::vector<Token> tokens = tokenizer.encode(text, Specials::plain);
    EXPECT_EQ(answer.prompt_tokens, tokens.size());
    expected.insert(expected.end(), tokens.begin(), tokens.end());
    expected.insert(expected.end(), answer.generation.tokens.begin(), answer.generation.tokens.end());
    answers.push_back(answer.generation.text);
  }
  fed.push_back(expected.back());  // chosen, and not fed yet
  EXPECT_EQ(fed, expected);
  EXPECT_FALSE(talk.rewrites());
  ASSERT_EQ(talk.messages().size(), 7u);
  EXPECT_EQ(talk.messages()[0].role, "system");
  EXPECT_EQ(talk.messages()[4].content, answers[1]);
  EXPECT_EQ(talk.messages()[6].role, "assistant");
  EXPECT_EQ(talk.left_out(), 0u);
}

// The token that ends an answer is the template's to write, and is fed once.
TEST_F(ChatTest, EndsAnAnswerOnce) {
  const Token end = *tokenizer.bos();
  const std::string spelled = tokenizer.decode(std::span(&end, 1), Tokenizer::Show::with_specials);
  const std::string form = "{% for m in messages %}{{ m.role }}: {{ m.content }}" + spelled +
                           "\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  Chat talk = chat({}, form);
  Request request = how(30);
  request.ends = std::vector{end};
  request.sampler.logit_bias = {{end, 8}};
  std::size_t ended = 0;
  for (int i = 0; i < 4; ++i) ended += talk.say("Hello?", request).generation.finish == Finish::end ? 1u : 0u;
  ASSERT_GT(ended, 1u);
  const auto messages = static_cast<std::ptrdiff_t>(talk.messages().size());
  EXPECT_EQ(std::ranges::count(fed, end), messages - 1) << "all but the last answer's, which is not fed yet";
  EXPECT_EQ(fed_text().find(spelled + spelled), std::string::npos);
}

TEST_F(ChatTest, WhatAUserWritesIsText) {
  const Token special = *tokenizer.bos();
  const std::string spelled = tokenizer.decode(std::span(&special, 1), Tokenizer::Show::with_specials);
  Chat talk = chat({}, spelled + lines);
  talk.set_system("Be " + spelled);
  for (int i = 0; i < 3; ++i) talk.say("a " + spelled + " b", how(5));
  EXPECT_EQ(std::ranges::count(fed, special), 1);
}

// Taking letters away, trimming, and leaving answers out.
TEST_F(ChatTest, GoesOnWhateverATemplateMakesOfAnswers) {
  const std::string rewriting =
      "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{{ m.content | replace('l', '') | "
      "replace('i', '') | replace('h', '') }}{% "
      "else %}"
      "{{ m.content }}{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  Chat talk = chat({}, rewriting);
  std::string expected;
  for (int i = 0; i < 3; ++i) {
    expected += (i == 0 ? "" : "\n") + std::string("user: Go on.\nassistant: ");
    expected += talk.say("Go on.", how(30, static_cast<std::uint64_t>(i))).generation.text;
  }
  EXPECT_EQ(expected.substr(0, fed_text().size()), fed_text());
  EXPECT_TRUE(talk.rewrites());

  const std::string trimming =
      "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}"
      "assistant:{% endif %}";
  Chat trimmed = chat({}, trimming);
  for (int i = 0; i < 3; ++i) trimmed.say("Go on.", how(10));
  EXPECT_FALSE(trimmed.rewrites()) << "blanks alone";

  const std::string silent = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}\n{% endif %}{% endfor %}";
  Chat unheard = chat({}, silent);
  EXPECT_EQ(unheard.say("a", how(3)).readings, 1u);
  EXPECT_EQ(unheard.say("b", how(3)).readings, 1u) << "nothing to go on from: read anew";
  fed.pop_back();
  fed.pop_back();
  EXPECT_EQ(fed_text(), "a\nb\n");
}

TEST_F(ChatTest, PinsWhatComesBeforeTheUser) {
  const std::string before = "system: The number is 417.\nuser: ";
  const std::string said = "What else can you tell me about it, my friend?";
  const auto alone = tokenizer.encode(before, Specials::plain),
             whole = tokenizer.encode(before + said, Specials::plain);
  const auto pinned = static_cast<std::size_t>(std::ranges::mismatch(alone, whole).in1 - alone.begin());
  ASSERT_GT(pinned, 10u);
  for (const PolicyCase& one : policy_cases()) {
    if (one.name.find("heads") != std::string::npos) continue;  // of models with more heads
    SCOPED_TRACE(one.name);
    std::optional<Chat> talk;
    try {
      talk.emplace(chat({.policy = one.policy, .chunk = 16, .record_drops = true}));
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("policy"), std::string::npos);
      continue;  // made for another shape
    }
    talk->set_system("The number is 417.");
    Answer answer;
    for (int i = 0; i < 6; ++i) answer = talk->say(said, how(20));
    std::size_t dropped = 0;
    for (const auto& layer : answer.drop_at)
      for (const auto& lane : layer) {
        for (std::size_t j = 0; j < pinned; ++j) ASSERT_EQ(lane[j], -1) << "token " << j << " of the system prompt";
        dropped += static_cast<std::size_t>(std::ranges::count_if(lane, [](std::int32_t at) { return at >= 0; }));
      }
    if (one.name != "none") {
      EXPECT_GT(dropped, 0u);
    }
  }
}

TEST_F(ChatTest, OutgrowsContextAndBudget) {
  const std::string system = "You are the keeper of a lighthouse, and you know the sea.";
  for (const char* const spelled : {"none", "gate", "streaming", "h2o", "gate and streaming"}) {
    for (const std::size_t budget : {std::size_t{0}, std::size_t{1} << 19}) {
      SCOPED_TRACE(std::string(spelled) + ", budget " + std::to_string(budget));
      using namespace prune;
      const std::string which = spelled;
      const AnyPolicy policy = which == "none"        ? none()
                               : which == "gate"      ? AnyPolicy(learned_gate())
                               : which == "streaming" ? streaming({.sinks = 0, .recent = 60})
                               : which == "h2o"       ? h2o({.rows = 96, .recent = 40})
                                                      : chain(learned_gate(), streaming({.sinks = 0, .recent = 100}));
      Chat talk = chat({.policy = policy, .chunk = 32, .context = 320, .kv_budget = budget});
      talk.set_system(system);
      std::size_t readings = 0, total = 0;
      for (std::uint64_t i = 0; i < 50; ++i) {
        const Answer answer =
            talk.say("Tell me more about the storm of the year " + std::to_string(1800 + i) + ".", how(20, i));
        EXPECT_EQ(answer.generation.finish, Finish::length);
        EXPECT_EQ(answer.generation.tokens.size(), 20u);
        readings += answer.readings;
        total += answer.prompt_tokens + 20;
        ASSERT_LE(talk.session().stats().bytes_high_water, budget > 0 ? budget : SIZE_MAX);
        ASSERT_TRUE(fed_text().starts_with("system: " + system + "\nuser: Tell me more"));
      }
      EXPECT_GT(total, 3u * 320);
      EXPECT_GT(readings, 3u);
      EXPECT_EQ(talk.messages().size(), 101u);
      EXPECT_GT(talk.left_out(), 80u);
      EXPECT_EQ(talk.left_out() % 2, 0u);
    }
  }
}

// What bounds its rows needs no second reading, however long one talks: positions go on beyond what was trained.
TEST_F(ChatTest, APolicyThatBoundsItsRowsIsNeverReadAgain) {
  Chat talk = chat({.policy = prune::streaming({.sinks = 0, .recent = 60}),
                    .chunk = 32,
                    .context = 100000,
                    .kv_budget = std::size_t{1} << 20});
  std::size_t readings = 0;
  for (std::uint64_t i = 0; i < 50; ++i) readings += talk.say("And then, what came of it all?", how(20, i)).readings;
  EXPECT_EQ(readings, 1u);
  EXPECT_EQ(talk.left_out(), 0u);
}

TEST_F(ChatTest, AnAnswerOutgrowsTheContext) {
  Chat talk = chat({.policy = prune::none(), .context = 200});
  talk.say("Once upon a time", how(40));
  talk.say("Go on.", how(60));
  const Answer answer = talk.say("Tell me a long story.", how(95));
  EXPECT_EQ(answer.generation.tokens.size(), 95u);
  EXPECT_EQ(answer.generation.finish, Finish::length);
  EXPECT_GT(answer.readings, 0u);
  const Answer endless = talk.say("A longer one.", how(1000));
  EXPECT_EQ(endless.generation.finish, Finish::context) << "half of the context is all that an answer can count on";
  EXPECT_GE(endless.generation.tokens.size(), 100u);
  EXPECT_EQ(talk.say("Thanks.", how(5)).generation.finish, Finish::length);
}

TEST_F(ChatTest, AStopEndsTheAnswerAlone) {
  Chat talk = chat();
  for (const std::size_t at : {0u, 1u, 7u}) {
    std::stop_source stop;
    Request request = how(50);
    std::size_t seen = 0;
    if (at == 0) stop.request_stop();
    request.on_piece = [&](const Piece& piece) {
      if (piece.token && ++seen == at) stop.request_stop();
    };
    const Answer answer = talk.say("Please tell me.", request, stop.get_token());
    EXPECT_EQ(answer.generation.finish, Finish::cancelled);
    EXPECT_EQ(answer.generation.tokens.size(), at);
    EXPECT_EQ(talk.say("And now?", how(5)).generation.tokens.size(), 5u);
  }
  EXPECT_EQ(talk.messages().size(), 12u);
}

TEST_F(ChatTest, TakesBackAMessageThatFails) {
  const std::string refusing =
      "{% if messages[-1].content == 'no' %}{{ raise_exception('refused') }}{% endif %}" + lines;
  Chat talk = chat({.context = 100}, refusing);
  EXPECT_EQ(error_of([&] { talk.say("no", how(5)); }), ErrorCode::argument);
  talk.say("yes", how(5));
  const std::vector<Token> before = fed;
  std::string much;
  for (int i = 0; i < 100; ++i) much += "too much ";
  EXPECT_EQ(error_of([&] { talk.say("no", how(5)); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { talk.say(much, how(5)); }), ErrorCode::argument);
  Request throwing = how(5);
  throwing.on_piece = [](const Piece&) { throw std::runtime_error("the host's own"); };
  EXPECT_THROW(talk.say("yes", throwing), std::runtime_error);
  EXPECT_EQ(talk.messages().size(), 2u);
  talk.say("well then", how(5));
  EXPECT_EQ(talk.messages().size(), 4u);
  EXPECT_EQ(fed_text().find("too much"), std::string::npos);

  Chat tiny = chat({.policy = prune::none(), .chunk = 16, .kv_budget = 200000});
  EXPECT_EQ(error_of([&] { tiny.say(much, how(5)); }), ErrorCode::budget);
  EXPECT_EQ(tiny.say("hm", how(2)).generation.tokens.size(), 2u);
}

TEST_F(ChatTest, GoesOnFromMessages) {
  Chat talk = chat();
  talk.restore({{"system", "Be brief."}, {"user", "Hello"}, {"assistant", "Hi."}});
  const Answer answer = talk.say("How are you?", how(4));
  EXPECT_EQ(answer.readings, 1u);
  EXPECT_TRUE(
      fed_text().starts_with("system: Be brief.\nuser: Hello\nassistant: Hi.\nuser: How are you?\nassistant: "));
  EXPECT_EQ(talk.system(), "Be brief.");
  talk.set_system("Be long.");
  talk.say("Again.", how(4));
  EXPECT_TRUE(fed_text().starts_with("system: Be long.\nuser: Hello\nassistant: Hi.\nuser: How are you?"));
  talk.set_system("");
  EXPECT_EQ(talk.messages().front().role, "user");
  talk.say("Again.", how(4));
  EXPECT_TRUE(fed_text().starts_with("user: Hello\n"));
  talk.set_system("New.");
  talk.reset();
  EXPECT_EQ(talk.messages().size(), 1u);
  talk.say("Hello", how(4));
  EXPECT_TRUE(fed_text().starts_with("system: New.\nuser: Hello\n"));

  using Messages = std::vector<Message>;
  for (const Messages& bad :
       {Messages{{"assistant", "Hi."}}, Messages{{"user", "Hello"}}, Messages{{"user", "a"}, {"user", "b"}},
        Messages{{"user", "a"}, {"assistant", "b"}, {"system", "c"}}})
    EXPECT_EQ(error_of([&] { talk.restore(bad); }), ErrorCode::argument);
  EXPECT_EQ(talk.messages().size(), 3u);
  EXPECT_EQ(error_of([&] { Chat(model, tokenizer); }), ErrorCode::format) << "the model has no template";
}

}  // namespace
}  // namespace pith::testing
