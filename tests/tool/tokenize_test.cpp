// SPDX-License-Identifier: MIT
// pith tokenize and pith detokenize.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "support/command.hpp"

namespace pith::test {
namespace {

class TokenizeTest : public CommandTest {};

TEST_F(TokenizeTest, TokenizeAndDetokenizeAreInverse) {
  const std::string text = "a text\nof two lines, é\n";
  const std::string ids = done({"tokenize", "-m", model(gated)}, text).out;
  EXPECT_EQ(std::ranges::count(ids, '\n'), 1);
  EXPECT_EQ(done({"detokenize", "-m", model(gated)}, ids).out, text);
  const Json json = json_of({"tokenize", "-m", model(gated), "-p", text});
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated)}, json.dump()).at("text"), text);
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", json.at("tokens").dump()}).at("text"), text);
}

TEST_F(TokenizeTest, LinesAreTextsOfTheirOwn) {
  const std::string ids = done({"tokenize", "-m", model(gated), "--lines"}, "one\n\ntwo").out;
  EXPECT_EQ(std::ranges::count(ids, '\n'), 3);
  EXPECT_EQ(done({"detokenize", "-m", model(gated), "--lines"}, ids).out, "one\n\ntwo\n");
  EXPECT_EQ(json_of({"tokenize", "-m", model(gated), "--lines"}, "a\nb\n").at("tokens").size(), 2u);
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "--lines"}, "65 65\n65").at("text"), Json({"aa", "a"}));
}

TEST_F(TokenizeTest, HalfACharacterIsStillJson) {
  const Json ids = json_of({"tokenize", "-m", model(gated), "-p", "é"}).at("tokens");
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", Json({ids[0]}).dump()}).at("text"), "\xef\xbf\xbd");
  EXPECT_TRUE(json_of({"tokenize", "-m", model(gated)}, "\xff\xfe").at("tokens").is_array());
}

TEST_F(TokenizeTest, SpecialTokensInAText) {
  const auto ids = [&](const char* mode) {
    return json_of({"tokenize", "-m", model(gated), "--specials", mode, "-p", "a<|endoftext|>"}).at("tokens");
  };
  EXPECT_EQ(ids("parse_only").back(), 0);
  EXPECT_EQ(ids("plain").size(), 14u);
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", "65 0"}).at("text"), "a");
  EXPECT_EQ(json_of({"detokenize", "-m", model(gated), "-p", "65 0", "--with-specials"}).at("text"), "a<|endoftext|>");
  const Finished beyond = done({"detokenize", "-m", model(gated), "-p", "65 320 65"});
  EXPECT_EQ(beyond.out, "aa");
  EXPECT_NE(beyond.err.find("320"), std::string::npos) << "a model may have more ids than its tokenizer; a typo, too";
  expect_failure(3, {"ids", "x"}, {"detokenize", "-m", model(gated), "-p", "1 x"});
}

TEST_F(TokenizeTest, WarnsWhereAFileLeavesTheCutsOpen) {
  GgufWriter writer;
  writer.text("general.architecture", "llama").text("tokenizer.ggml.model", "gpt2");
  writer.texts("tokenizer.ggml.tokens", {"1", "2", "12", "1212"}).texts("tokenizer.ggml.merges", {"1 2", "12 12"});
  const std::string path = file("open.gguf", writer.bytes());
  const Finished open = done({"tokenize", "-m", path, "-p", "1212"});
  EXPECT_NE(open.err.find("warning: --pre: "), std::string::npos) << open.err;
  EXPECT_NE(open.err.find("tokenizer.ggml.pre"), std::string::npos) << open.err;
  EXPECT_EQ(done({"tokenize", "-m", path, "-p", "1212", "-q"}).err, "");
  const Finished chosen = done({"tokenize", "-m", path, "-p", "1212", "--pre", "gpt-2"});
  EXPECT_EQ(chosen.err, "");
  EXPECT_EQ(chosen.out, "3\n");
  EXPECT_EQ(done({"tokenize", "-m", path, "-p", "1212", "--pre", "qwen2"}).out, "0 1 0 1\n");
  EXPECT_EQ(done({"detokenize", "-m", path, "-p", "3", "--pre", "gpt-2"}).out, "1212");
  expect_failure(2, {"--pre", "qwen2", "nonsense"}, {"tokenize", "-m", path, "-p", "1", "--pre", "nonsense"});
  expect_failure(2, {"--pre", "GGUF"}, {"tokenize", "-m", model(gated), "-p", "1", "--pre", "gpt-2"});
}

}  // namespace
}  // namespace pith::test
