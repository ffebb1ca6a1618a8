// SPDX-License-Identifier: MIT
// Real tokenizers: the expected ids of real texts, in every form in which a tokenizer is given.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "pith/tokenizer.hpp"
#include "support/shared_data.hpp"

namespace pith {
namespace {

using Show = Tokenizer::Show;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

struct Vector {
  std::string text;
  std::vector<Token> ids;
};

/// NAME.inp: texts, each followed by a line with a separator; NAME.out: the ids of each, a line a text.
std::vector<Vector> read_vectors(const std::filesystem::path& name) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string texts = read(name.string() + ".inp");
  std::istringstream lines(read(name.string() + ".out"));
  std::vector<Vector> out;
  std::string line;
  for (std::size_t at = 0; std::getline(lines, line);) {
    const auto end = texts.find(separator, at);
    if (end == texts.npos) {
      ADD_FAILURE() << "more ids than texts in " << name;
      break;
    }
    std::istringstream ids(line);
    out.push_back({texts.substr(at, end - at), {}});
    for (Token id = 0; ids >> id;) out.back().ids.push_back(id);
    at = end + separator.size();
  }
  return out;
}

struct Form {
  std::string name;       // of the test
  std::string tokenizer;  // below data/tokenizers/
  std::string vectors;    // below data/tokenizers/ggml/
};

class TokenizerVectors : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    for (const std::string& path :
         {"data/tokenizers/" + GetParam().tokenizer, std::string("data/tokenizers/ggml/gpt-2.inp")})
      if (test::shared_data(path).empty()) GTEST_SKIP() << test::shared_absent(path);
  }
  Tokenizer load() const { return Tokenizer::load(test::shared_data("data/tokenizers/" + GetParam().tokenizer)); }
  static std::vector<Vector> vectors() {
    return read_vectors(test::shared_data("data/tokenizers/ggml") / GetParam().vectors);
  }
};

TEST_P(TokenizerVectors, EncodesAsExpected) {
  const auto tokenizer = load();
  const auto all = vectors();
  ASSERT_GE(all.size(), 46u);
  for (const auto& [text, ids] : all) EXPECT_EQ(tokenizer.encode(text, Specials::parse_only), ids) << text;
}

TEST_P(TokenizerVectors, DecodesBackWholeAndStreamed) {
  const auto tokenizer = load();
  for (const auto& [text, ids] : vectors()) {
    EXPECT_EQ(tokenizer.decode(ids), text);
    TextStream stream(tokenizer);
    std::string streamed;
    for (const Token id : ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.flush(), text);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Forms, TokenizerVectors,
    testing::Values(Form{"Gpt2Directory", "gpt2", "gpt-2"}, Form{"Gpt2Json", "gpt2/tokenizer.json", "gpt-2"},
                    Form{"Gpt2Vocab", "gpt2/vocab.json", "gpt-2"}, Form{"Gpt2Merges", "gpt2/merges.txt", "gpt-2"},
                    Form{"Gpt2Gguf", "ggml/ggml-vocab-gpt-2.gguf", "gpt-2"},
                    Form{"Llama2Directory", "llama2", "llama-spm"},
                    Form{"Llama2Json", "llama2/tokenizer.json", "llama-spm"},
                    Form{"Llama2SentencePiece", "llama2/tokenizer.model", "llama-spm"},
                    Form{"Llama2Gguf", "ggml/ggml-vocab-llama-spm.gguf", "llama-spm"},
                    Form{"Qwen2Directory", "qwen2", "qwen2"}, Form{"Qwen2Vocab", "qwen2/vocab.json", "qwen2"}),
    [](const auto& tested) { return tested.param.name; });

TEST(TokenizerReal, LlamaAddsItsBosInEveryForm) {
  for (const std::string path : {"data/tokenizers/llama2/tokenizer.json", "data/tokenizers/llama2/tokenizer.model",
                                 "data/tokenizers/ggml/ggml-vocab-llama-spm.gguf"}) {
    if (test::shared_data(path).empty()) GTEST_SKIP() << test::shared_absent(path);
    const auto tokenizer = Tokenizer::load(test::shared_data(path));
    EXPECT_EQ(tokenizer.encode("Hello"), (std::vector<Token>{1, 15043})) << path;
    EXPECT_EQ(tokenizer.bos(), 1);
    EXPECT_TRUE(tokenizer.is_end(2));
    EXPECT_FALSE(tokenizer.is_end(1));
    EXPECT_EQ(tokenizer.vocab_size(), 32000);
    EXPECT_EQ(tokenizer.decode(std::vector<Token>{1, 15043, 2}), "Hello");
    EXPECT_EQ(tokenizer.decode(std::vector<Token>{1, 15043, 2}, Show::with_specials), "<s> Hello</s>");
  }
}

TEST(TokenizerReal, QwenKnowsItsSpecialTokens) {
  const auto path = test::shared_data("data/tokenizers/qwen2");
  if (path.empty()) GTEST_SKIP() << test::shared_absent("data/tokenizers/qwen2");
  const auto tokenizer = Tokenizer::load(path);
  const std::string turn = "<|im_start|>user\nHi<|im_end|>";
  EXPECT_EQ(tokenizer.encode(turn, Specials::as_trained), (std::vector<Token>{151644, 872, 198, 13048, 151645}));
  EXPECT_GT(tokenizer.encode(turn).size(), 5u) << "a user's text";
  EXPECT_EQ(tokenizer.encode(turn), tokenizer.encode(turn, Specials::plain));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(turn, Specials::plain)), turn);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(turn, Specials::as_trained), Show::with_specials), turn);
  EXPECT_TRUE(tokenizer.is_end(151643));
  EXPECT_TRUE(tokenizer.is_end(151645));
  EXPECT_EQ(tokenizer.bos(), std::nullopt);
  // Composed and decomposed are one text to it.
  EXPECT_EQ(tokenizer.encode("Cafe\xcc\x81"), tokenizer.encode("Caf\xc3\xa9"));
}

TEST(TokenizerReal, FormsAgreeOnLongTexts) {
  const auto text = test::shared_data("data/text/wikitext-2/valid.txt");
  const auto tokenizers = test::shared_data("data/tokenizers");
  if (text.empty() || tokenizers.empty()) GTEST_SKIP() << test::shared_absent("data/text/wikitext-2/valid.txt");
  const std::string long_text = read(text);
  const std::vector<std::vector<std::string>> groups = {
      {"gpt2/tokenizer.json", "gpt2/vocab.json", "ggml/ggml-vocab-gpt-2.gguf"},
      {"llama2/tokenizer.json", "llama2/tokenizer.model", "ggml/ggml-vocab-llama-spm.gguf"}};
  for (const auto& group : groups) {
    const auto first = Tokenizer::load(tokenizers / group[0]).encode(long_text, Specials::plain);
    for (const auto& form : group) {
      const auto tokenizer = Tokenizer::load(tokenizers / form);
      EXPECT_TRUE(tokenizer.encode(long_text, Specials::plain) == first) << form;
      EXPECT_TRUE(tokenizer.decode(first) == long_text) << form;
    }
  }
}

TEST(TokenizerReal, StoriesAgreeAndRoundTrip) {
  const auto folder = test::shared_data("data/models/stories260K");
  if (folder.empty()) GTEST_SKIP() << test::shared_absent("data/models/stories260K");
  const auto from_json = Tokenizer::load(folder);
  const std::vector<std::string> texts = {"Once upon a time, there was a little girl named Lily.",
                                          "",
                                          " ",
                                          "  two  spaces ",
                                          "line\nbreak\ttab",
                                          "na\xc3\xafve \xf0\x9f\xa6\x99",
                                          "<s> in a text </s>",
                                          "1234567890"};
  for (const auto name : {"stories260K-f32.gguf", "stories260K-f16.gguf"}) {
    const auto from_gguf = Tokenizer::load(folder / name);
    EXPECT_EQ(from_gguf.vocab_size(), from_json.vocab_size());
    EXPECT_EQ(from_gguf.bos(), from_json.bos());
    for (Token id = 0; id < from_json.vocab_size(); ++id) {
      EXPECT_EQ(from_gguf.piece(id), from_json.piece(id));
      EXPECT_EQ(from_gguf.is_special(id), from_json.is_special(id));
      EXPECT_EQ(from_gguf.is_end(id), from_json.is_end(id));
    }
    for (const auto& text : texts) {
      for (const auto specials : {Specials::add_only, Specials::as_trained, Specials::parse_only, Specials::plain})
        EXPECT_EQ(from_gguf.encode(text, specials), from_json.encode(text, specials)) << text;
      EXPECT_EQ(from_gguf.decode(from_gguf.encode(text, Specials::plain)), text);
      EXPECT_EQ(from_json.decode(from_json.encode(text, Specials::plain)), text);
    }
  }
  const auto ids = from_json.encode(texts[0]);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids[1], 403);  // "▁Once", as the model itself begins
}

// The tokenizer.json here carries tokens for runs of spaces, of another model: with GPT-2's own configuration beside it
// they must not come out of a text.
TEST(TokenizerReal, TokensBeyondTheModelAreNotUsed) {
  const auto path = test::shared_data("data/tokenizers/gpt2");
  if (path.empty()) GTEST_SKIP() << test::shared_absent("data/tokenizers/gpt2");
  const auto tokenizer = Tokenizer::load(path);
  for (const Token id : tokenizer.encode("a    b\t\tc        d")) EXPECT_LE(id, 50256);
  EXPECT_EQ(tokenizer.decode(std::vector<Token>{50284}), "    ");
}

}  // namespace
}  // namespace pith
