// SPDX-License-Identifier: MIT
// A thousand hostile texts, cut as well-known models do, against what Hugging Face's `tokenizers` and SentencePiece
// make of them (words/make.py): by tokenizer.json's own description, and by the name that GGUF has for it.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "files/gguf.hpp"
#include "pith/quantize.hpp"
#include "pith/tokenizer.hpp"
#include "support/files.hpp"

namespace pith {
namespace {

using Json = nlohmann::ordered_json;
using test::GgufWriter;
using test::TempFolder;

const std::filesystem::path folder = std::filesystem::path(PITH_SOURCE_DIR) / "tests/text/words";

Json read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

const Json& vectors() {
  static const Json all = read(folder / "vectors.json");
  return all;
}

/// As make.py has it.
std::string fingerprint(const std::vector<Token>& ids) {
  std::uint32_t hash = 0x811C9DC5;
  for (const Token id : ids)
    for (const char c : std::to_string(id) + " ") hash = (hash ^ static_cast<unsigned char>(c)) * 0x01000193;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", hash);
  return text;
}

void expect_ids(const Tokenizer& tokenizer, const std::string& ids, const std::string& what) {
  const auto texts = vectors().at("texts").get<std::vector<std::string>>();
  ASSERT_EQ(texts.size(), 1000u);
  ASSERT_EQ(ids.size(), 8 * texts.size());
  int shown = 0, wrong = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (ids[8 * i] == '-') continue;  // left out
    const auto found = tokenizer.encode(texts[i], Specials::parse_only);
    if (fingerprint(found) == ids.substr(8 * i, 8)) continue;
    ++wrong;
    if (++shown > 5) continue;
    std::string pieces;
    for (const Token token : found) pieces += "[" + std::string(tokenizer.piece(token)) + "]";
    ADD_FAILURE() << what << ": " << Json(texts[i]) << " as " << pieces;
  }
  EXPECT_EQ(wrong, 0) << what;
}

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& [name, family] : vectors().at("families").items()) names.push_back(name);
  return names;
}

class Words : public ::testing::TestWithParam<std::string> {
 protected:
  const Json& family() const { return vectors().at("families").at(GetParam()); }

  Json tokenizer_json() const {
    Json vocab = Json::object();
    for (const auto& token : vectors().at("tokens")) vocab[token.get<std::string>()] = vocab.size();
    return {{"version", "1.0"},
            {"added_tokens", Json::array()},
            {"normalizer", family().at("normalizer")},
            {"pre_tokenizer", family().at("pre_tokenizer")},
            {"post_processor", nullptr},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model",
             {{"type", "BPE"},
              {"ignore_merges", family().at("ignore_merges")},
              {"vocab", vocab},
              {"merges", vectors().at("merges")}}}};
  }
};

TEST_P(Words, ByItsTokenizerJson) {
  const TempFolder scratch;
  const auto path = scratch.write("tokenizer.json", tokenizer_json().dump());
  expect_ids(Tokenizer::load(path), family().at("ids"), GetParam());
}

TEST_P(Words, ByItsNameInGguf) {
  const TempFolder scratch;
  GgufWriter gguf;
  gguf.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", GetParam());
  gguf.texts("tokenizer.ggml.tokens", vectors().at("tokens").get<std::vector<std::string>>());
  gguf.texts("tokenizer.ggml.merges", vectors().at("merges").get<std::vector<std::string>>());
  const auto tokenizer = Tokenizer::load(scratch.write("words.gguf", gguf.bytes()));
  EXPECT_TRUE(tokenizer.notes().empty());
  expect_ids(tokenizer, family().at("ids"), GetParam());
}

// What quantize writes names the way to cut, so that others can read it.
TEST_P(Words, IsNamedInGguf) {
  const TempFolder scratch;
  const auto model = scratch.path() / "model";
  std::filesystem::copy(std::filesystem::path(PITH_MODELS_DIR) / "bookworm-1m", model);
  std::ofstream(model / "tokenizer.json") << tokenizer_json();
  const auto written = scratch.path() / "model.gguf";
  quantize(model, written, {.format = Format::f16});
  GgufWriter bare;
  bare.text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", gguf::open(written).get<std::string>("tokenizer.ggml.pre"));
  bare.texts("tokenizer.ggml.tokens", vectors().at("tokens").get<std::vector<std::string>>());
  bare.texts("tokenizer.ggml.merges", vectors().at("merges").get<std::vector<std::string>>());
  const auto tokenizer = Tokenizer::load(scratch.write("bare.gguf", bare.bytes()));
  // GGUF has no key for composing characters: such a name may stand for one that does not.
  if (family().at("normalizer").is_null()) expect_ids(tokenizer, family().at("ids"), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Models, Words, ::testing::ValuesIn(families()), [](const auto& chosen) {
  std::string name = chosen.param;
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
});

TEST(WordsOfPhi3, ByTokenizerJson) {
  const TempFolder scratch;
  const Json& phi3 = vectors().at("phi-3");
  expect_ids(Tokenizer::load(scratch.write("tokenizer.json", phi3.at("tokenizer").dump())), phi3.at("ids"), "phi-3");
}

// 262,144 pieces; needs the model.
TEST(WordsOfGemma3, ByThePiecesInAGguf) {
  const char* const models = std::getenv("PITH_MODELS");
  const std::filesystem::path path =
      std::filesystem::path(models != nullptr ? models : "") / "gemma-3-270m.q4_k_m.gguf";
  if (models == nullptr || !std::filesystem::exists(path))
    GTEST_SKIP() << "needs gemma-3-270m.q4_k_m.gguf in PITH_MODELS";
  const auto tokenizer = Tokenizer::load(path);
  EXPECT_EQ(tokenizer.vocab_size(), 262144);
  expect_ids(tokenizer, read(folder / "gemma-3.json").at("ids"), "gemma-3");
}

}  // namespace
}  // namespace pith
