// SPDX-License-Identifier: MIT
// pith quantize.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "support/command.hpp"

namespace pith::test {
namespace {

class QuantizeTest : public CommandTest {};

TEST_F(QuantizeTest, WritesAGgufThatAllElseReads) {
  const testing::Golden expected = testing::golden(gated);
  const std::string out = scratch("quantized.gguf").string();
  const Json json = json_of({"quantize", "-m", model(gated), "-o", out, "--format", "f32"});
  EXPECT_EQ(json.at("file"), out);
  EXPECT_EQ(json.at("format"), "f32");
  EXPECT_EQ(json.at("bytes").get<std::uintmax_t>(), fs::file_size(out));
  const Json inspect = json_of({"inspect", "-m", out});
  EXPECT_EQ(inspect.at("gate"), json_of({"inspect", "-m", model(gated)}).at("gate"));
  EXPECT_EQ(inspect.at("tensors").size(), json.at("tensors").size());
  const std::string ids = file_of_ids(expected.tokens);
  EXPECT_EQ(json_of({"eval", "-m", out, "--tokens", ids}).at("drop_at"),
            json_of({"eval", "-m", model(gated), "--tokens", ids}).at("drop_at"));
  EXPECT_EQ(json_of({"tokenize", "-m", out, "-p", "A \xc3\xa9!"}).at("tokens"),
            json_of({"tokenize", "-m", model(gated), "-p", "A \xc3\xa9!"}).at("tokens"));

  const Finished again = done({"quantize", "-m", out, "-o", scratch("q8.gguf").string(), "-t", "2"});
  EXPECT_NE(again.out.find("q8.gguf: "), std::string::npos) << again.out;
  EXPECT_LT(fs::file_size(scratch("q8.gguf")), fs::file_size(out));
}

TEST_F(QuantizeTest, SaysWhereTheTokenizerDoesNotSayHowItCutsWords) {
  const std::string named = scratch("named.gguf").string(), out = scratch("again.gguf").string();
  EXPECT_EQ(done({"quantize", "-m", model(gated), "-o", named, "--format", "f32"}).err.find("tokenizer.ggml.pre"),
            std::string::npos);
  std::string bytes = content(named);
  const std::string key = "tokenizer.ggml.pre";
  const auto at = bytes.find(key);
  ASSERT_NE(at, std::string::npos);
  bytes[at + key.size() - 1] = 'x';  // another key
  const std::string unnamed = file("unnamed.gguf", bytes);

  const Finished finished = done({"quantize", "-m", unnamed, "-o", out, "--format", "f32", "--json"});
  std::string wanted = done({"tokenize", "-m", unnamed, "-p", "a"}).err;
  wanted = wanted.substr(wanted.find("--pre: ") + 2, wanted.find('\n') - wanted.find("--pre: ") - 2);
  EXPECT_TRUE(wanted.starts_with("pre: " + unnamed)) << wanted;
  EXPECT_NE(finished.err.find("pith: " + wanted + "\n"), std::string::npos) << finished.err;
  EXPECT_EQ(finished.json().at("notes"), Json::array({wanted}));
  EXPECT_EQ(json_of({"quantize", "-m", named, "-o", out, "--format", "f32"}).at("notes"), Json::array());
}

TEST_F(QuantizeTest, MixesFormatsAndSaysWhatDoesNotFit) {
  const std::string out = scratch("mixed.gguf").string();
  const Finished finished = done({"quantize", "-m", model(gated), "-o", out, "--like", "q4_k_m", "--json"});
  EXPECT_EQ(finished.json().at("format"), "q4_k_m");
  EXPECT_NE(finished.err.find("no multiple of the 256 of q4_k: "), std::string::npos) << finished.err;
  EXPECT_EQ(json_of({"inspect", "-m", out}).at("tensors").size(), finished.json().at("tensors").size());
  const std::string help = done({"quantize", "--help"}).out;
  for (const char* name : {"q4_k_m", "q5_k_m", "iq4_xs", "mxfp4"}) EXPECT_NE(help.find(name), std::string::npos);
}

TEST_F(QuantizeTest, RefusesWhatMakesNoSense) {
  const std::string out = scratch("never.gguf").string();
  expect_failure(2, {"--output"}, {"quantize", "-m", model(gated)});
  expect_failure(2, {"--model", "--synthetic"}, {"quantize", "-o", out});
  expect_failure(2, {"--model", "--synthetic"}, {"quantize", "-m", "x", "--synthetic", "gpt2-124m", "-o", out});
  expect_failure(2, {"--format", "q9_k"}, {"quantize", "-m", model(gated), "-o", out, "--format", "q9_k"});
  expect_failure(2, {"--like", "q4_k"}, {"quantize", "-m", model(gated), "-o", out, "--like", "q4_k"});
  expect_failure(2, {"--format", "--like"},
                 {"quantize", "-m", model(gated), "-o", out, "--format", "q4_k", "--like", "q4_k_m"});
  expect_failure(2, {"--gates"}, {"quantize", "--synthetic", "gpt2-124m", "--gates", "x", "-o", out});
  expect_failure(2, {"--gate-dim"}, {"quantize", "-m", model(gated), "--gate-dim", "4", "-o", out});
  expect_failure(3, {"nowhere"}, {"quantize", "-m", scratch("nowhere").string(), "-o", out});
  expect_failure(3, {"a directory"}, {"quantize", "-m", model(gated), "-o", scratch("").string()});
  expect_failure(3, {"bad"}, {"quantize", "-m", model(gated), "--gates", file("bad", "x"), "-o", out});
  expect_failure(4, {"one of", "gpt5"}, {"quantize", "--synthetic", "gpt5", "-o", out});
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace pith::test
