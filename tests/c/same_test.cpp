// SPDX-License-Identifier: MIT
// What C gets is what C++ gets, bit for bit; and what only C++ can set up for a C caller to meet.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "c/handles.hpp"
#include "pith/pith.h"
#include "pith/prune/spec.hpp"
#include "support/files.hpp"
#include "support/large_key.hpp"

namespace pith::testing {
namespace {

namespace fs = std::filesystem;

const fs::path bookworm = fs::path(PITH_MODELS_DIR) / "bookworm-1m";
constexpr const char* story = "The old house stood at the end of the lane, and";

struct CTest : ::testing::Test {
  void SetUp() override {
    ASSERT_EQ(pith_model_load(bookworm.c_str(), nullptr, &model), PITH_OK) << pith_error_message();
    ASSERT_EQ(pith_tokenizer_load(bookworm.c_str(), &tokenizer), PITH_OK) << pith_error_message();
    ASSERT_EQ(pith_session_options_init(&options, sizeof options), PITH_OK);
    ASSERT_EQ(pith_request_init(&request, sizeof request), PITH_OK);
    ASSERT_EQ(pith_sampler_options_init(&sampler, sizeof sampler), PITH_OK);
  }
  void TearDown() override {
    pith_model_free(model);
    pith_tokenizer_free(tokenizer);
  }

  pith_model* model = nullptr;
  pith_tokenizer* tokenizer = nullptr;
  pith_session_options options;
  pith_request request;
  pith_sampler_options sampler;
};

TEST_F(CTest, ARequestGivesTheSameTokens) {
  const TokenBias biases[] = {{.token = 70, .bias = 2}, {.token = 71, .bias = -1}};
  const pith_token_bias biases_in_c[] = {{70, 2}, {71, -1}};
  const std::vector<Token> banned = {72, 73};
  constexpr const char* policy = "gate,streaming(sinks=2,recent=24)";

  Generator generator(Model::load(bookworm), Tokenizer::load(bookworm),
                      {.policy = prune::parse(policy, 1), .kv = {KvFormat::q8_0, KvFormat::f16}, .chunk = 16});
  const Generation expected = generator.generate({.prompt = story,
                                                  .max_tokens = 40,
                                                  .logprobs = 3,
                                                  .sampler = {.temperature = 0.8f,
                                                              .top_k = 50,
                                                              .top_p = 0.95f,
                                                              .min_p = 0.01f,
                                                              .repetition_penalty = 1.2f,
                                                              .frequency_penalty = 0.1f,
                                                              .presence_penalty = 0.2f,
                                                              .repetition_window = 32,
                                                              .logit_bias = {biases[0], biases[1]},
                                                              .banned = banned,
                                                              .seed = 7},
                                                  .draft = {.tokens = 3},
                                                  .tau = 2.f,
                                                  .pinned = 4});

  options.policy = policy;
  options.tau = 1;
  options.kv = "k=q8_0,v=f16";
  options.chunk = 16;
  pith_generator* other = nullptr;
  ASSERT_EQ(pith_generator_create(model, tokenizer, &options, 3, &other), PITH_OK) << pith_error_message();
  sampler.temperature = 0.8f;
  sampler.top_k = 50;
  sampler.top_p = 0.95f;
  sampler.min_p = 0.01f;
  sampler.repetition_penalty = 1.2f;
  sampler.frequency_penalty = 0.1f;
  sampler.presence_penalty = 0.2f;
  sampler.repetition_window = 32;
  sampler.logit_bias = biases_in_c;
  sampler.logit_bias_count = 2;
  sampler.banned = banned.data();
  sampler.banned_count = banned.size();
  sampler.seed = 7;
  request.prompt = story;
  request.max_tokens = 40;
  request.logprobs = 3;
  request.sampler = &sampler;
  request.draft_tokens = 3;
  request.tau = 2;
  request.pinned = 4;
  pith_generation* given = nullptr;
  ASSERT_EQ(pith_generator_generate(other, &request, nullptr, &given), PITH_OK) << pith_error_message();
  EXPECT_EQ(std::vector<Token>(given->tokens, given->tokens + given->token_count), expected.tokens);
  EXPECT_EQ(std::vector<float>(given->logprobs, given->logprobs + given->token_count), expected.logprobs);
  EXPECT_EQ(std::string(given->text), expected.text);
  ASSERT_EQ(given->top_count, 3u);
  for (std::size_t i = 0; i < expected.top.size(); ++i)
    for (std::size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(given->top[3 * i + k].token, expected.top[i][k].token);
      EXPECT_EQ(given->top[3 * i + k].logprob, expected.top[i][k].logprob);
    }
  EXPECT_EQ(given->drafted, expected.drafts.drafted);
  EXPECT_EQ(given->accepted, expected.drafts.accepted);

  pith_stats* stats = nullptr;
  ASSERT_EQ(pith_generator_stats(other, &stats), PITH_OK);
  EXPECT_EQ(stats->bytes_high_water, generator.session().stats().bytes_high_water);
  EXPECT_EQ(std::string(stats->policy), prune::parse(policy, 1).describe());
  pith_stats_free(stats);
  pith_generation_free(given);
  pith_generator_free(other);
}

TEST_F(CTest, TheDefaultsAreThoseOfCpp) {
  const Generation expected =
      Generator(Model::load(bookworm), Tokenizer::load(bookworm)).generate({.prompt = story, .max_tokens = 30});
  pith_generator* generator = nullptr;
  ASSERT_EQ(pith_generator_create(model, tokenizer, nullptr, 0, &generator), PITH_OK);
  request.prompt = story;
  request.max_tokens = 30;
  const pith_sampler_options* const none = nullptr;
  for (const pith_sampler_options* const how : std::vector{none, &std::as_const(sampler)}) {
    request.sampler = how;
    pith_generation* given = nullptr;
    ASSERT_EQ(pith_generator_generate(generator, &request, nullptr, &given), PITH_OK) << pith_error_message();
    EXPECT_EQ(std::vector<Token>(given->tokens, given->tokens + given->token_count), expected.tokens);
    pith_generation_free(given);
  }
  pith_generator_free(generator);
}

TEST_F(CTest, ASessionGivesTheSameLogitsAndDrops) {
  const std::vector<Token> prompt = Tokenizer::load(bookworm).encode(story);
  Session session(Model::load(bookworm), {.gate_keys = GateKeys::f16, .chunk = 5, .record_drops = true});
  const SequenceId id = session.add(prompt, Logits::all);
  options.gate_keys = "f16";
  options.chunk = 5;
  options.record_drops = true;
  pith_session* other = nullptr;
  ASSERT_EQ(pith_session_create(model, &options, &other), PITH_OK) << pith_error_message();
  pith_sequence sequence = 9;
  ASSERT_EQ(pith_session_add(other, prompt.data(), prompt.size(), PITH_LOGITS_ALL, &sequence), PITH_OK);
  std::size_t rows = 0;
  while (!session.idle()) {
    const auto expected = session.step();
    const pith_output* given = nullptr;
    std::size_t count = 0;
    ASSERT_EQ(pith_session_step(other, nullptr, &given, &count), PITH_OK) << pith_error_message();
    ASSERT_EQ(count, expected.size());
    for (std::size_t i = 0; i < count; ++i, ++rows) {
      ASSERT_EQ(given[i].vocab_size, expected[i].logits.size());
      EXPECT_EQ(std::memcmp(given[i].logits, expected[i].logits.data(), expected[i].logits.size_bytes()), 0);
    }
  }
  EXPECT_EQ(rows, prompt.size());

  std::int32_t* drop_at = nullptr;
  std::size_t layers = 0, lanes = 0, length = 0;
  ASSERT_EQ(pith_session_drop_at(other, sequence, &drop_at, &layers, &lanes, &length), PITH_OK);
  std::vector<std::int32_t> expected;
  for (const auto& layer : session.drop_at(id))
    for (const auto& lane : layer) expected.insert(expected.end(), lane.begin(), lane.end());
  EXPECT_EQ(std::vector<std::int32_t>(drop_at, drop_at + layers * lanes * length), expected);
  pith_free(drop_at);
  pith_session_free(other);
}

TEST_F(CTest, ConversationsAreWrittenByTheModelsTemplate) {
  const test::TempFolder folder;
  fs::copy_file(bookworm / "tokenizer.json", folder.path() / "tokenizer.json");
  folder.write("chat_template.jinja",
               "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.more }}{% endfor %}{{ mood }}"
               "{% if tools %}[{{ tools | length }}]{% endif %}{% if add_generation_prompt %}<assistant>{% endif %}");
  pith_tokenizer* chatty = nullptr;
  ASSERT_EQ(pith_tokenizer_load(folder.path().c_str(), &chatty), PITH_OK) << pith_error_message();
  const auto text_of = [&](pith_status status, const pith_token* tokens, std::size_t count) {
    EXPECT_EQ(status, PITH_OK) << pith_error_message();
    char* text = nullptr;
    EXPECT_EQ(pith_tokenizer_decode(chatty, tokens, count, true, &text, nullptr), PITH_OK);
    std::string out = text;
    pith_free(text);
    return out;
  };
  pith_token* tokens = nullptr;
  std::size_t count = 0;
  const pith_message messages[] = {{"system", "Be brief."}, {"user", "Who?"}};
  pith_status status = pith_tokenizer_chat(chatty, messages, 2, nullptr, &tokens, &count);
  EXPECT_EQ(text_of(status, tokens, count), "<system>Be brief.<user>Who?<assistant>");
  pith_free(tokens);

  pith_chat_options how;
  ASSERT_EQ(pith_chat_options_init(&how, sizeof how), PITH_OK);
  how.add_generation_prompt = false;
  how.tools = "[{}, {}]";
  how.variables = "{\"mood\": \"!\"}";
  status =
      pith_tokenizer_chat_json(chatty, R"([{"role": "user", "content": "a", "more": "b"}])", &how, &tokens, &count);
  EXPECT_EQ(text_of(status, tokens, count), "<user>ab![2]");
  pith_free(tokens);
  EXPECT_EQ(pith_tokenizer_chat_json(chatty, "[", nullptr, &tokens, &count), PITH_ERROR_ARGUMENT);
  how.name = "none such";
  EXPECT_EQ(pith_tokenizer_chat(chatty, messages, 2, &how, &tokens, &count), PITH_ERROR_ARGUMENT);
  EXPECT_NE(std::string(pith_error_message()).find("none such"), std::string::npos) << pith_error_message();
  // The shipped model has none.
  EXPECT_EQ(pith_tokenizer_chat(tokenizer, messages, 2, nullptr, &tokens, &count), PITH_ERROR_FORMAT);
  pith_tokenizer_free(chatty);
}

TEST_F(CTest, MessagesAreAThreadsOwn) {
  EXPECT_EQ(pith_model_load("/here", nullptr, &model), PITH_ERROR_FILE);
  std::thread([] {
    EXPECT_EQ(std::string(pith_error_message()), "");
    pith_model* none = nullptr;
    EXPECT_EQ(pith_model_load("/there", nullptr, &none), PITH_ERROR_FILE);
    EXPECT_NE(std::string(pith_error_message()).find("/there"), std::string::npos);
  }).join();
  EXPECT_NE(std::string(pith_error_message()).find("/here"), std::string::npos) << pith_error_message();
}

TEST_F(CTest, OneSequencesErrorNamesTheSequence) {
  pith_model broken{model_with_a_large_key(), "llama", {}};
  options.kv = "f16";
  pith_session* session = nullptr;
  ASSERT_EQ(pith_session_create(&broken, &options, &session), PITH_OK) << pith_error_message();
  const std::vector<Token> good = {1, 2, 3}, bad = {1, too_large, 3};
  pith_sequence first = 0, second = 0;
  ASSERT_EQ(pith_session_add(session, good.data(), 3, PITH_LOGITS_LAST, &first), PITH_OK);
  ASSERT_EQ(pith_session_add(session, bad.data(), 3, PITH_LOGITS_LAST, &second), PITH_OK);
  const pith_output* outputs = nullptr;
  std::size_t count = 0;
  EXPECT_EQ(pith_session_step(session, nullptr, &outputs, &count), PITH_ERROR_UNSUPPORTED);
  EXPECT_EQ(pith_error_sequence(), second);
  EXPECT_EQ(pith_session_finish(session, second), PITH_OK);
  EXPECT_EQ(pith_session_step(session, nullptr, &outputs, &count), PITH_OK) << pith_error_message();
  ASSERT_EQ(count, 1u);
  EXPECT_EQ(outputs[0].sequence, first);
  EXPECT_EQ(pith_session_finish(session, 77), PITH_ERROR_ARGUMENT);
  EXPECT_EQ(pith_error_sequence(), PITH_NO_SEQUENCE);
  pith_session_free(session);

  // A request's own error is told in its last piece, and comes out of generate().
  pith_generator* generator = nullptr;
  ASSERT_EQ(pith_generator_create(&broken, nullptr, &options, 0, &generator), PITH_OK) << pith_error_message();
  std::string told;
  request.tokens = bad.data();
  request.token_count = bad.size();
  request.user = &told;
  request.on_piece = [](void* user, const pith_piece* piece) {
    EXPECT_EQ(piece->finish, PITH_FINISH_ERROR);
    EXPECT_EQ(piece->error, PITH_ERROR_UNSUPPORTED);
    EXPECT_EQ(piece->token, PITH_NO_TOKEN);
    EXPECT_EQ(piece->logits, nullptr);
    EXPECT_TRUE(std::isnan(piece->logprob));
    *static_cast<std::string*>(user) = piece->error_message;
  };
  pith_generation* given = nullptr;
  EXPECT_EQ(pith_generator_generate(generator, &request, nullptr, &given), PITH_ERROR_UNSUPPORTED);
  EXPECT_EQ(given, nullptr);
  EXPECT_NE(told.find("layer 0"), std::string::npos) << told;
  EXPECT_EQ(told, pith_error_message());
  pith_generator_free(generator);
}

}  // namespace
}  // namespace pith::testing
