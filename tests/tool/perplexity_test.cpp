// SPDX-License-Identifier: MIT
// pith perplexity.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "support/command.hpp"

namespace pith::test {
namespace {

class PerplexityTest : public CommandTest {};

TEST_F(PerplexityTest, OfOneWindowIsThatOfEval) {
  const std::string text = "The old house stood at the end of the lane.";
  const Json tokens = json_of({"tokenize", "-m", model(gated), "-p", text}).at("tokens");
  const Json eval = json_of({"eval", "-m", model(gated), "--tokens", "-"}, tokens.dump());
  const Json json = json_of({"perplexity", "-m", model(gated), "-p", text});
  EXPECT_EQ(json.at("tokens"), tokens.size() - 1);
  EXPECT_EQ(json.at("windows"), 1);
  EXPECT_NEAR(json.at("nll"), eval.at("nll"), 1e-6);
  EXPECT_NEAR(json.at("perplexity"), std::exp(json.at("nll").get<double>()),
              1e-6 * json.at("perplexity").get<double>());
  EXPECT_EQ(json.at("kept"), eval.at("kept"));
  EXPECT_EQ(json.at("kept_per_layer").size(), 3u);
  EXPECT_LE(json.at("kv_bytes_peak"), json.at("kv_bytes_dense"));
  EXPECT_GT(json.at("seconds"), 0);
}

TEST_F(PerplexityTest, WindowsCoverTheTextOnce) {
  const std::string text = file("text.txt", std::string(101, 'a') + "b");
  const auto run = [&](const Arguments& more) {
    Arguments arguments = {"perplexity", "-m", model(gated), "-f", text, "-c", "20"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json_of(arguments);
  };
  const Json apart = run({});
  EXPECT_EQ(apart.at("tokens"), 102 - 6) << "the first token of each window is not scored";
  EXPECT_EQ(apart.at("windows"), 6);
  const Json overlapping = run({"--stride", "5"});
  EXPECT_EQ(overlapping.at("tokens"), 101);
  EXPECT_EQ(overlapping.at("windows"), 18);
  EXPECT_EQ(run({"--stride", "1"}).at("tokens"), 101);
}

TEST_F(PerplexityTest, OfOverlapIsThatOfItsWindows) {
  const Json tokens = json_of({"tokenize", "-m", model(gated), "-p", "abcdefghijkl"}).at("tokens");
  const Json json = json_of({"perplexity", "-m", model(gated), "-p", "abcdefghijkl", "-c", "8", "--stride", "4"});
  // The windows 0-7 and 4-11: of the second, 8-11 are new.
  const auto nll = [&](std::size_t first, std::size_t count) {
    const Json part(std::vector<Json>(tokens.begin() + static_cast<std::ptrdiff_t>(first),
                                      tokens.begin() + static_cast<std::ptrdiff_t>(first + count)));
    return json_of({"eval", "-m", model(gated), "--tokens", "-"}, part.dump()).at("nll").get<double>() *
           static_cast<double>(count - 1);
  };
  EXPECT_EQ(json.at("tokens"), 11);
  EXPECT_NEAR(json.at("nll"), (nll(0, 8) + nll(4, 8) - nll(4, 4)) / 11, 1e-5);
}

constexpr const char* text = "The old house stood at the end of the lane, and nobody went there.";

/// The mean over the tokens from `first` on, by the logits that eval writes.
double nll_from(std::size_t first, const Json& tokens, const std::string& logits) {
  const std::string bytes = content(logits);
  const std::size_t vocab = bytes.size() / sizeof(float) / tokens.size();
  double sum = 0;
  for (std::size_t t = first; t < tokens.size(); ++t) {
    std::vector<float> row(vocab);
    std::memcpy(row.data(), bytes.data() + (t - 1) * vocab * sizeof(float), vocab * sizeof(float));
    double total = 0;
    for (const float logit : row) total += std::exp(static_cast<double>(logit));
    sum += std::log(total) - static_cast<double>(row[tokens[t].get<std::size_t>()]);
  }
  return sum / static_cast<double>(tokens.size() - first);
}

// Windows of c tokens side by side, each begun by a BOS in place of its first token where there is one, and scored
// behind its middle: as llama.cpp does it.
TEST_F(PerplexityTest, OfTheSecondHalfOfEachWindow) {
  // The shipped model with a BOS, which its file does not ask for.
  const fs::path with_bos = scratch("with-bos");
  fs::copy(fs::path(PITH_MODELS_DIR) / "bookworm-1m", with_bos);
  Json tokenizer = Json::parse(content(with_bos / "tokenizer.json"));
  const Json bos = {{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}};
  tokenizer["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {bos, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", Json::array()},
      {"special_tokens", {{"<|endoftext|>", {{"id", "<|endoftext|>"}, {"ids", {0}}, {"tokens", {"<|endoftext|>"}}}}}}};
  std::ofstream(with_bos / "tokenizer.json") << tokenizer;
  for (const std::string& path : {model(gated), with_bos.string()}) {
    SCOPED_TRACE(path);
    constexpr std::size_t context = 9;
    std::string words;
    for (int i = 0; i < 3; ++i) words += text;
    const Json tokens = json_of({"tokenize", "-m", path, "-p", words}).at("tokens");
    const bool has_bos = path != model(gated);
    ASSERT_EQ(tokens[0] == 0, has_bos);
    double sum = 0;
    std::size_t scored = 0, windows = 0;
    const std::string logits = scratch("half.f32").string();
    for (std::size_t start = 0; start + context <= tokens.size(); start += context, ++windows) {
      Json window = Json::array();
      for (std::size_t i = 0; i < context; ++i) window.push_back(tokens[start + i]);
      if (has_bos) window[0] = tokens[0];
      done({"eval", "-m", path, "--tokens", "-", "--logits", logits}, window.dump());
      sum += nll_from(context / 2 + 1, window, logits) * static_cast<double>(context - 1 - context / 2);
      scored += context - 1 - context / 2;
    }
    ASSERT_GT(windows, 2u);
    const Json json = json_of({"perplexity", "-m", path, "-p", words, "-c", "9", "--second-half"});
    EXPECT_EQ(json.at("tokens"), scored);
    EXPECT_EQ(json.at("windows"), windows);
    EXPECT_EQ(json.at("second_half"), true);
    EXPECT_NEAR(json.at("nll"), sum / static_cast<double>(scored), 1e-4);
  }
  expect_failure(2, {"--second-half", "at least one window"},
                 {"perplexity", "-m", model(gated), "-p", "abc", "-c", "20", "--second-half"});
  expect_failure(2, {"--second-half", "--stride"},
                 {"perplexity", "-m", model(gated), "-p", text, "--stride", "3", "--second-half"});
}

TEST_F(PerplexityTest, SaysWhereAPolicyActsTooLateToBeMeasured) {
  const auto run = [&](const Arguments& more) {
    Arguments arguments = {"perplexity", "-m", model(gated), "-p", text, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return done(arguments);
  };
  const auto says = [](const Finished& finished, const char* what) {
    const Json notes = finished.json().at("notes");
    if (notes.empty()) return finished.err.find("warning: --policy") != std::string::npos;
    EXPECT_NE(finished.err.find("pith: warning: " + notes.at(0).get<std::string>()), std::string::npos) << finished.err;
    EXPECT_NE(notes.at(0).get<std::string>().find(what), std::string::npos) << notes;
    return true;
  };
  const double dense = run({"--policy", "none"}).json().at("nll");
  for (const char* policy :
       {"snapkv(rows=12,window=4)", "h2o(rows=12,recent=4)", "streaming(sinks=4,recent=500),h2o(rows=12,recent=4)"}) {
    SCOPED_TRACE(policy);
    const Finished late = run({"--policy", policy});
    EXPECT_TRUE(says(late, "--prompt-tokens"));
    EXPECT_EQ(late.json().at("nll"), dense);
    EXPECT_EQ(late.json().at("kept"), 1);
    const Finished measured = run({"--policy", policy, "--prompt-tokens", "24"});
    EXPECT_FALSE(says(measured, "")) << measured.err;
    EXPECT_LT(measured.json().at("kept"), 1);
  }
  EXPECT_TRUE(says(run({"--policy", "gate,snapkv(rows=6,window=2)"}), "--prompt-tokens"));
  EXPECT_TRUE(says(run({"--policy", "snapkv(rows=12,window=4)", "-b", "8"}), "--prompt-tokens")) << "in several passes";
  EXPECT_TRUE(says(run({"--policy", "h2o(rows=12,recent=4)", "-b", "8"}), "judges once a pass"));
  EXPECT_FALSE(says(run({"--policy", "h2o(rows=12,recent=4)", "-b", "1"}), "")) << "as decoding does";
  EXPECT_TRUE(says(run({"--policy", "h2o(rows=900)"}), "dense"));
  EXPECT_FALSE(says(run({"--policy", "gate"}), ""));
  EXPECT_FALSE(says(run({"--policy", "none"}), ""));
}

TEST_F(PerplexityTest, OfTokensThatFollowAPromptIsThatOfDecoding) {
  const Json tokens = json_of({"tokenize", "-m", model(gated), "-p", text}).at("tokens");
  const std::string logits = scratch("logits.f32").string();
  for (const char* policy : {"none", "gate", "snapkv(rows=12,window=4)", "h2o(rows=12,recent=4)"}) {
    SCOPED_TRACE(policy);
    const Json json =
        json_of({"perplexity", "-m", model(gated), "-p", text, "--policy", policy, "--prompt-tokens", "24"});
    EXPECT_EQ(json.at("prompt_tokens"), 24);
    EXPECT_EQ(json.at("tokens"), tokens.size() - 24);
    const Json eval = json_of(
        {"eval", "-m", model(gated), "--tokens", "-", "--policy", policy, "--prompt-tokens", "24", "--logits", logits},
        tokens.dump());
    EXPECT_EQ(json.at("kept"), eval.at("kept"));
    EXPECT_NEAR(json.at("nll"), nll_from(24, tokens, logits), 1e-5);
  }
  EXPECT_EQ(json_of({"eval", "-m", model(gated), "--tokens", "-", "--prompt-tokens", "1"}, tokens.dump()),
            json_of({"eval", "-m", model(gated), "--tokens", "-", "--decode"}, tokens.dump()));
  expect_failure(2, {"--prompt-tokens", "66", "70"},
                 {"perplexity", "-m", model(gated), "-p", text, "--prompt-tokens", "70"});
}

}  // namespace
}  // namespace pith::test
