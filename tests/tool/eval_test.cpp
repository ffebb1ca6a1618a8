// SPDX-License-Identifier: MIT
// pith eval.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "support/command.hpp"

namespace pith::test {
namespace {

class EvalTest : public CommandTest {};

TEST_F(EvalTest, ReproducesTheFixtures) {
  for (const std::string& name : testing::golden_names()) {
    const testing::Golden expected = testing::golden(name);
    const std::string ids = file_of_ids(expected.tokens);
    for (const Arguments& how : {Arguments{}, Arguments{"-b", "7"}, Arguments{"--decode"}}) {
      SCOPED_TRACE(name + (how.empty() ? "" : " " + how[0]));
      const fs::path logits = scratch("logits.f32");
      Arguments arguments = {"eval", "-m", expected.path, "--tokens", ids, "--logits", logits};
      arguments.insert(arguments.end(), how.begin(), how.end());
      const Json json = json_of(arguments);
      EXPECT_EQ(json.at("tokens"), expected.tokens.size());
      EXPECT_EQ(json.at("drop_at"), expected.drop_at);

      const std::string bytes = content(logits);
      const std::size_t vocab = expected.logits[0].size();
      ASSERT_EQ(bytes.size(), expected.logits.size() * vocab * sizeof(float));
      double nll = 0;
      for (std::size_t t = 0; t < expected.logits.size(); ++t) {
        std::vector<float> row(vocab);
        std::memcpy(row.data(), bytes.data() + t * vocab * sizeof(float), vocab * sizeof(float));
        double largest = 0, worst = 0, sum = 0;
        for (std::size_t i = 0; i < vocab; ++i) {
          largest = std::max(largest, std::fabs(static_cast<double>(expected.logits[t][i])));
          worst = std::max(worst, std::fabs(static_cast<double>(row[i]) - expected.logits[t][i]));
          sum += std::exp(static_cast<double>(expected.logits[t][i]));
        }
        ASSERT_LE(worst, 2e-4 * largest) << "token " << t;
        if (t + 1 < expected.tokens.size())
          nll += std::log(sum) - expected.logits[t][static_cast<std::size_t>(expected.tokens[t + 1])];
      }
      EXPECT_NEAR(json.at("nll"), nll / static_cast<double>(expected.tokens.size() - 1), 1e-3);
    }
  }
}

TEST_F(EvalTest, TellsOfAContinuationAlone) {
  const testing::Golden expected = testing::golden(gated);
  const std::string ids = file_of_ids(expected.tokens);
  const std::size_t prompt = 20, row = expected.logits[0].size() * sizeof(float);
  const Arguments arguments = {
      "eval", "-m", expected.path, "--tokens", ids, "--prompt-tokens", std::to_string(prompt), "--logits"};
  const auto with = [&](std::initializer_list<std::string> more) {
    Arguments all = arguments;
    all.insert(all.end(), more);
    return json_of(all);
  };
  const fs::path all = scratch("all.f32"), some = scratch("some.f32");
  const Json whole = with({all.string()}), part = with({some.string(), "--continuation"});
  EXPECT_EQ(content(some), content(all).substr((prompt - 1) * row)) << "the prompt's last logits are the first";
  EXPECT_EQ(part.at("drop_at"), whole.at("drop_at"));
  const testing::Golden& g = expected;
  double nll = 0;
  for (std::size_t t = prompt; t < g.tokens.size(); ++t) {
    double sum = 0;
    for (const float logit : g.logits[t - 1]) sum += std::exp(static_cast<double>(logit));
    nll += std::log(sum) - g.logits[t - 1][static_cast<std::size_t>(g.tokens[t])];
  }
  EXPECT_NEAR(part.at("nll"), nll / static_cast<double>(g.tokens.size() - prompt), 1e-3);
  const Arguments alone = {"eval", "-m", expected.path, "--tokens", ids, "--continuation"};
  EXPECT_EQ(pith(alone).exit, 2) << "of what prompt?";
}

TEST_F(EvalTest, CountsWhatIsVisible) {
  const testing::Golden expected = testing::golden(gated);
  const Json json = json_of({"eval", "-m", expected.path, "--tokens", file_of_ids(expected.tokens)});
  const auto n = static_cast<double>(expected.tokens.size());
  double sum = 0;
  for (const auto& layer : expected.drop_at) {
    double visible = 0;
    for (std::size_t j = 0; j < layer.size(); ++j) visible += (layer[j] < 0 ? n : layer[j]) - static_cast<double>(j);
    sum += visible / (n * (n + 1) / 2);
  }
  EXPECT_NEAR(json.at("kept"), sum / static_cast<double>(expected.drop_at.size()), 1e-9);
  EXPECT_LT(json.at("kv_bytes"), json.at("kv_bytes_dense"));
}

TEST_F(EvalTest, HasDropsPerHeadWhereHeadsForgetForThemselves) {
  const testing::Golden expected = testing::golden(gated);
  const Json json = json_of({"eval", "-m", expected.path, "--tokens", file_of_ids(expected.tokens), "--policy",
                             "h2o(rows=32,recent=8)", "-b", "16"});
  ASSERT_EQ(json.at("drop_at").size(), 3u);
  ASSERT_EQ(json.at("drop_at")[0].size(), 2u) << "kv-heads";
  EXPECT_EQ(json.at("drop_at")[0][0].size(), expected.tokens.size());
  EXPECT_LT(json.at("kept"), 1);
}

TEST_F(EvalTest, TakesIdsFromStdinAndFromOtherReports) {
  const std::string reference = testing::golden(gated).path;
  const Json wanted = json_of({"eval", "-m", reference, "--tokens", file_of_ids({5, 6, 7, 8})});
  EXPECT_EQ(json_of({"eval", "-m", reference, "--tokens", "-"}, "[5,6,7,8]").at("nll"), wanted.at("nll"));
  EXPECT_EQ(json_of({"eval", "-m", reference, "--tokens", "-"}, "{\"tokens\": [5,6,7,8]}").at("nll"), wanted.at("nll"));
}

TEST_F(EvalTest, OfOneTokenHasNoLikelihood) {
  const Json json = json_of({"eval", "-m", testing::golden(gated).path, "--tokens", file_of_ids({5})});
  EXPECT_TRUE(json.at("nll").is_null());
  EXPECT_EQ(json.at("drop_at"), Json::parse("[[-1],[-1],[-1]]"));
}

}  // namespace
}  // namespace pith::test
