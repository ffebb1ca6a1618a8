// SPDX-License-Identifier: MIT
// pith bench.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/command.hpp"
#include "support/model_files.hpp"

namespace pith::test {
namespace {

class BenchTest : public CommandTest {};

TEST_F(BenchTest, MeasuresEveryDepth) {
  const std::string path = testing::golden(gated).path.string();
  const Json json =
      json_of({"bench", "-m", path, "-d", "0,40", "-p", "12", "-n", "4", "-r", "3", "-t", "1", "--kv", "f32"});
  std::vector<std::pair<std::string, int>> tests;
  for (const Json& row : json.at("rows")) {
    tests.emplace_back(row.at("test"), row.at("depth").get<int>());
    for (const char* field : {"n", "live_rows", "tokens_per_s", "ms_per_token", "kv_bytes", "rss_peak"})
      EXPECT_GT(row.at(field), 0) << field;
    EXPECT_LE(row.at("tokens_per_s_min"), row.at("tokens_per_s"));
    EXPECT_GE(row.at("tokens_per_s_max"), row.at("tokens_per_s"));
    EXPECT_NEAR(row.at("tokens_per_s").get<double>() * row.at("ms_per_token").get<double>(), 1000, 1e-6);
  }
  EXPECT_EQ(tests, (decltype(tests){{"prefill", 0}, {"prefill", 40}, {"decode", 0}, {"decode", 40}}));
  EXPECT_EQ(json.at("rows")[1].at("live_rows"), 40 + 12);
  // After a step to warm up, four that each see themselves: 42 to 45 rows, and the two before the first.
  EXPECT_EQ(json.at("rows")[3].at("live_rows"), 44);
  EXPECT_GT(json.at("system").at("read_bytes_per_s"), 0);
  EXPECT_EQ(json.at("rows")[0].at("keep"), 1);
}

TEST_F(BenchTest, ThinsTheContextAndGoesOnJudgingIt) {
  const std::string path = testing::golden(gated).path.string();
  const Json json = json_of({"bench", "-m", path, "-d", "100", "-p", "0", "-n", "2", "-r", "1", "-t", "1", "--keep",
                             "1,0.2", "--sequences", "3"});
  ASSERT_EQ(json.at("rows").size(), 2u);
  EXPECT_EQ(json.at("rows").at(0).at("live_rows"), 103);
  EXPECT_FALSE(json.at("rows").at(0).contains("gate_share"));
  const Json& row = json.at("rows").at(1);
  EXPECT_EQ(row.at("live_rows"), 23) << "20 of 100, and what was decoded since: nothing more is dropped";
  EXPECT_TRUE(row.contains("gate_share"));
  EXPECT_GT(row.at("bytes_per_step"), 0);
  const std::string text = done({"bench", "-m", path, "-d", "0", "-p", "4", "-n", "1", "-r", "1"}).out;
  EXPECT_NE(text.find("of bound"), std::string::npos) << text;
}

TEST_F(BenchTest, SpreadsSequencesOverDepths) {
  const auto bench = [&](const Arguments& more) {
    Arguments args = {"bench", "-m",          testing::golden(gated).path.string(),
                      "-d",    "100",         "-p",
                      "0",     "-n",          "2",
                      "-r",    "1",           "-t",
                      "1",     "--sequences", "4"};
    args.insert(args.end(), more.begin(), more.end());
    return json_of(args);
  };
  EXPECT_EQ(bench({}).at("rows").at(0).at("live_rows"), 103);
  const Json mixed = bench({"--mixed"}), thinned = bench({"--mixed", "--keep", "0.2"});
  EXPECT_EQ(mixed.at("rows").at(0).at("live_rows"), 65) << "25, 50, 75 and 100, and what was decoded since";
  EXPECT_EQ(thinned.at("rows").at(0).at("live_rows"), 15) << "5, 10, 15 and 20";
  EXPECT_EQ(mixed.at("config").at("mixed"), true);
}

TEST_F(BenchTest, HoldsPrefillAgainstThePeakOfDotProducts) {
  const std::string blocks = scratch("blocks.gguf").string();
  done({"quantize", "-m", model("gpt2-gated"), "-o", blocks, "--format", "q8_0"});
  const auto bench = [&](const std::string& path) {
    return json_of({"bench", "-m", path, "-d", "0", "-p", "12", "-n", "0", "-r", "3", "-t", "1"});
  };
  const Json json = bench(blocks), row = json.at("rows").at(0);
  EXPECT_GT(row.at("of_peak"), 0);
  EXPECT_LT(row.at("of_peak"), 1);
  EXPECT_GT(json.at("system").at("multiply_adds_per_s"), 0);
  const Json floats = bench(model("gpt2-gated"));
  EXPECT_FALSE(floats.at("rows").at(0).contains("of_peak")) << "weights in floats";
  EXPECT_FALSE(floats.at("system").contains("multiply_adds_per_s")) << "nothing to hold against it";
}

TEST_F(BenchTest, RefusesWhatItCannotMeasure) {
  const std::string path = testing::golden(gated).path.string();
  expect_failure(2, {"--model", "--synthetic"}, {"bench"});
  expect_failure(4, {"one of", "gpt2-124m", "gpt5"}, {"bench", "--synthetic", "gpt5"});
  expect_failure(2, {"--keep", "--policy"}, {"bench", "-m", path, "--keep", "0.5", "--policy", "streaming"});
  expect_failure(2, {}, {"bench", "-m", path, "-p", "0", "-n", "0"});
  expect_failure(2, {"--keep", "1.5"}, {"bench", "-m", path, "--keep", "0.5,1.5"});
  expect_failure(2, {"--depth/-d", "64 positions", "68"},
                 {"bench", "-m", model("gpt2-dense"), "-d", "60", "-p", "8", "-n", "0", "-r", "1"});
  expect_failure(2, {"--depth", "-3"}, {"bench", "-m", path, "-d", "0,-3"});
  expect_failure(
      4, {"gate"},
      {"bench", "-m", testing::golden("gpt2-dense").path.string(), "-d", "9", "-p", "4", "-n", "2", "--keep", "0.5"});
}

TEST_F(BenchTest, RefusesAModelThatOverflowsTheCache) {
  const Json config = {{"model_type", "llama"},       {"hidden_size", 64},
                       {"num_hidden_layers", 1},      {"vocab_size", 12},
                       {"num_attention_heads", 4},    {"num_key_value_heads", 2},
                       {"intermediate_size", 16},     {"head_dim", 16},
                       {"tie_word_embeddings", true}, {"max_position_embeddings", 64}};
  // Counted weights: keys are sums of 64 products of hundreds.
  const TempFolder huge;
  huge.write("config.json", config.dump());
  huge.write("model.safetensors", safetensors_of(read_config(config, "test")).bytes());
  const auto bench = [&](const std::string& kv) {
    return Arguments{"bench", "-m", huge.path().string(), "-d", "4", "-p", "4", "-n", "2", "-r", "1", "--kv", kv};
  };
  done(bench("f32"));
  expect_failure(4, {"layer 0", "keys", "f16", "65520", "f32"}, bench("f16"));
}

}  // namespace
}  // namespace pith::test
