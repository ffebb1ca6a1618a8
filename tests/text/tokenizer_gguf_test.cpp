// SPDX-License-Identifier: MIT
// A GGUF may leave open how texts are cut, and may define a tokenizer twice: what counts, and that it is said.
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pith/tokenizer.hpp"
#include "support/files.hpp"

namespace pith {
namespace {

using Ids = std::vector<Token>;
using Json = nlohmann::json;
using test::expect_error;

constexpr int control = 3, normal = 1;

/// A byte-level tokenizer in both of its forms: letters and digits apart, "12" and "34" and "1234" merged.
struct Both {
  std::vector<std::string> tokens = {"1", "2", "3", "4", "a", "b", "12", "34", "1234", "ab", "<s>", "</s>"};
  std::vector<std::int32_t> kinds = std::vector<std::int32_t>(10, normal);
  std::vector<std::string> merges = {"1 2", "3 4", "12 34", "a b"};
  std::string pre = "qwen2";  // every digit alone
  std::uint32_t bos = 10, eos = 11;
  bool adds_bos = true, adds_eos = false, has_json = true;
  std::function<void(Json&)> change_json = [](Json&) {};

  Both() { kinds.insert(kinds.end(), {control, control}); }

  Json json() const {
    Json vocabulary, added = Json::array();
    for (std::size_t i = 0; i < tokens.size(); ++i) vocabulary[tokens[i]] = i;
    for (const int id : {10, 11})
      added.push_back({{"id", id}, {"content", tokens[static_cast<std::size_t>(id)]}, {"special", true}});
    const std::string qwen2_words =
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
        R"(\s+(?!\S)|\s+)";
    Json out = {
        {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}},
        {"added_tokens", added},
        {"normalizer", {{"type", "NFC"}}},
        {"pre_tokenizer",
         {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", qwen2_words}}}, {"behavior", "Isolated"}, {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
        {"decoder", {{"type", "ByteLevel"}}},
        {"post_processor",
         {{"type", "TemplateProcessing"},
          {"single",
           {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
          {"pair", Json::array()},
          {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {10}}, {"tokens", {"<s>"}}}}}}}}};
    change_json(out);
    return out;
  }

  Tokenizer load(const TokenizerOptions& options = {}) const {
    test::GgufWriter out;
    if (has_json) out.text("tokenizer.huggingface.json", Both().with(change_json).json().dump());
    out.text("general.architecture", "llama").text("tokenizer.ggml.model", "gpt2");
    out.texts("tokenizer.ggml.tokens", tokens).texts("tokenizer.ggml.merges", merges);
    out.put("tokenizer.ggml.token_type", 9,
            test::raw(std::uint32_t{5}) + test::raw(std::uint64_t{kinds.size()}) + test::raw(kinds));
    if (!pre.empty()) out.text("tokenizer.ggml.pre", pre);
    out.u32("tokenizer.ggml.bos_token_id", bos).u32("tokenizer.ggml.eos_token_id", eos);
    out.flag("tokenizer.ggml.add_bos_token", adds_bos).flag("tokenizer.ggml.add_eos_token", adds_eos);
    const test::TempFolder folder;
    return Tokenizer::load(folder.write("m.gguf", out.bytes()), options);
  }

  Both& with(std::function<void(Json&)> change) {
    change_json = std::move(change);
    return *this;
  }
};

void expect_note(const Tokenizer& tokenizer, const std::vector<std::string>& parts) {
  ASSERT_EQ(tokenizer.notes().size(), 1u) << ::testing::PrintToString(tokenizer.notes());
  for (const std::string& part : parts)
    EXPECT_NE(tokenizer.notes().front().find(part), std::string::npos) << tokenizer.notes().front();
}

TEST(TokenizerGguf, SaysNothingWhereNothingIsOpen) {
  Both both;
  for (const bool has_json : {true, false}) {
    both.has_json = has_json;
    const Tokenizer tokenizer = both.load();
    EXPECT_TRUE(tokenizer.notes().empty()) << ::testing::PrintToString(tokenizer.notes());
    EXPECT_EQ(tokenizer.encode("1234ab"), (Ids{10, 0, 1, 2, 3, 9}));
    EXPECT_TRUE(tokenizer.is_end(11));
  }
}

TEST(TokenizerGguf, SaysWhereItCannotKnowHowTextsAreCut) {
  Both both;
  both.has_json = false;
  both.pre = "";
  expect_note(both.load(), {"pre: ", "m.gguf", "tokenizer.ggml.pre", "default", "llama-bpe", "qwen2", "gpt-2"});
  both.pre = "default";
  EXPECT_TRUE(both.load().notes().empty()) << "the file says so";
  both.pre = "";
  both.has_json = true;
  EXPECT_TRUE(both.load().notes().empty()) << "the tokenizer.json knows";
  EXPECT_EQ(both.load().encode("1234", Specials::plain), (Ids{0, 1, 2, 3}));
}

TEST(TokenizerGguf, IsToldHowTextsAreCut) {
  Both both;
  for (const bool has_json : {true, false})
    for (const char* pre : {"", "qwen2", "unknown", "chameleon"}) {
      both.has_json = has_json;
      both.pre = pre;
      const Tokenizer gpt2 = both.load({.pre = "gpt-2"});
      EXPECT_EQ(gpt2.encode("1234", Specials::plain), Ids{8}) << pre;
      EXPECT_TRUE(gpt2.notes().empty());
      EXPECT_EQ(both.load({.pre = "qwen2"}).encode("1234", Specials::plain), (Ids{0, 1, 2, 3})) << pre;
    }
  expect_error(ErrorCode::argument, {"pre", "llama-bpe", "\"nonsense\""}, [&] { both.load({.pre = "nonsense"}); });
  const test::TempFolder folder;
  const auto file = folder.write("tokenizer.json", Both().json().dump());
  expect_error(ErrorCode::argument, {"pre", "GGUF", "tokenizer.json"},
               [&] { Tokenizer::load(file, {.pre = "gpt-2"}); });
  expect_error(ErrorCode::argument, {"pre", "GGUF"}, [&] { Tokenizer::load(folder.path(), {.pre = "gpt-2"}); });
}

TEST(TokenizerGguf, CountsByItsKeysWhereTheyDiffer) {
  Both both;
  both.pre = "gpt-2";
  expect_note(both.load(), {"tokenizer.ggml.pre", "differs", "tokenizer.huggingface.json"});
  EXPECT_EQ(both.load().encode("1234", Specials::plain), Ids{8});

  both = Both();
  both.pre = "stablelm2";
  EXPECT_TRUE(both.load().notes().empty()) << "another name for the same";

  both = Both();
  both.tokens[4] = "c";
  both.tokens[9] = "cb";
  both.merges[3] = "c b";
  expect_note(both.load(), {"tokenizer.ggml.tokens", "differs"});
  EXPECT_EQ(both.load().encode("cb", Specials::plain), Ids{9});

  both = Both();
  both.merges.pop_back();
  expect_note(both.load(), {"tokenizer.ggml.merges", "differs"});
  EXPECT_EQ(both.load().encode("ab", Specials::plain), (Ids{4, 5}));

  both = Both();
  both.kinds[9] = control;
  expect_note(both.load(), {"tokenizer.ggml.token_type", "differs"});
  EXPECT_TRUE(both.load().is_special(9));
}

TEST(TokenizerGguf, BeginsAndEndsTextsByItsKeys) {
  Both both;
  both.adds_bos = false;
  EXPECT_EQ(both.load().encode("a"), Ids{4});
  both.adds_eos = true;
  EXPECT_EQ(both.load().encode("a"), (Ids{4, 11}));
  both.adds_bos = true;
  both.bos = 11;
  both.eos = 10;
  EXPECT_EQ(both.load().encode("a"), (Ids{11, 4, 10}));
  EXPECT_TRUE(both.load().is_end(10));
  EXPECT_EQ(both.load().bos(), 11);
  EXPECT_TRUE(both.load().notes().empty()) << "the keys say all of it";
}

TEST(TokenizerGguf, SaysWhichCutsHaveNoName) {
  Both both;
  both.with([](Json& json) { json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = R"(\d{2})"; });
  EXPECT_EQ(both.load().encode("1234", Specials::plain), (Ids{6, 7}));
  expect_note(both.load(), {"tokenizer.huggingface.json", "no name", "tokenizer.ggml.pre"});
  both.pre = "unknown";
  EXPECT_TRUE(both.load().notes().empty());
}

}  // namespace
}  // namespace pith
