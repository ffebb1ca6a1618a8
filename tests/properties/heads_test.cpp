// SPDX-License-Identifier: MIT
// Kv-heads that are kept whole by what a file says of them.
#include <gtest/gtest.h>

#include <limits>

#include "pith/prune/methods.hpp"
#include "pith/prune/protect.hpp"
#include "pith/prune/spec.hpp"
#include "support/compare.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

using namespace prune;
using Lists = std::vector<std::vector<std::size_t>>;

TEST(HeadScoresTest, OthersAreWhatIsNotAmongTheBest) {
  const HeadScores heads{{}, {{0.1f, 0.9f}, {0.5f, 0.1f}}};
  EXPECT_EQ(heads.others(0), (Lists{{0, 1}, {0, 1}}));
  EXPECT_EQ(heads.others(0.25f), (Lists{{0}, {0, 1}}));
  EXPECT_EQ(heads.others(0.5f), (Lists{{0}, {1}}));
  EXPECT_EQ(heads.others(0.75f), (Lists{{}, {1}})) << "of equals, the lower layer's is better";
  EXPECT_EQ(heads.others(1), (Lists{{}, {}}));
}

TEST(HeadScoresTest, AreReadFromObjectsAndLines) {
  const test::TempFolder folder;
  const auto json = folder.write("heads.json", R"( {"0-1": 0.25, "1-0": 1, "0-0": -2e-1, "1-1": 0})");
  EXPECT_EQ(HeadScores::read(json).scores, (std::vector<std::vector<float>>{{-0.2f, 0.25f}, {1, 0}}));
  EXPECT_EQ(HeadScores::read(json).file, json.string());
  const auto lines = folder.write("heads.tsv", "0.5\t1e-3\t1.0\r\n0\t0.25\t0.75\n\n");
  EXPECT_EQ(HeadScores::read(lines).scores, (std::vector<std::vector<float>>{{0.5f, 1e-3f, 1}, {0, 0.25f, 0.75f}}));
}

TEST(HeadScoresTest, HeadsWithoutAScoreAreNeverAmongTheBest) {
  const test::TempFolder folder;
  const auto json = folder.write("heads.json", R"({"0-0": null, "0-1": null, "1-0": -1, "1-1": 0})");
  const HeadScores heads = HeadScores::read(json);
  EXPECT_EQ(heads.scored(), (std::vector<std::size_t>{1}));
  EXPECT_EQ(heads.others(0.5f), (Lists{{0, 1}, {0}}));
  EXPECT_EQ(heads.others(1), (Lists{{0, 1}, {}}));
}

TEST(HeadScoresTest, WhatSaysLessOrOtherThingsIsRefused) {
  const test::TempFolder folder;
  const auto refused = [&](const std::string& text, std::vector<std::string> parts) {
    const auto path = folder.write("heads", text);
    parts.push_back(path.string());
    test::expect_error(ErrorCode::format, parts, [&] { HeadScores::read(path); });
  };
  refused("{}", {"0 scores"});
  refused(R"({"0-0": 1, "1-1": 1})", {"2 kv-heads in each of 2 layers", "2 scores"});
  refused(R"({"0-0": 1, "00-0": 1, "0-1": 2, "1-1": 3})", {"once", "twice"});
  refused(R"({"0": 1})", {"\"3-1\"", "\"0\""});
  refused(R"({"0-70000": 1})", {"\"0-70000\""});
  refused(R"({"0-0": [1]})", {"\"0-0\"", "a number", "[1]"});
  refused(R"({"0-0": 1)", {});
  refused("", {"nothing"});
  refused("\n \n", {"nothing"});
  refused("1 2\n3\n", {"line 2", "2 numbers", "1"});
  refused("1 2\n3 x\n", {"line 2", "\"x\""});
  refused("1 nan\n", {"line 1", "\"nan\""});
  refused("1 2\n\n3 4\n", {"line 2", "0"});
}

/// A model with at least so many kv-heads.
Model model_of(int kv_heads) {
  std::uint64_t seed = 34;
  while (random_model({.seed = seed, .n_layers = 3, .window = 0}).config().n_kv_heads < kv_heads) ++seed;
  return random_model({.seed = seed, .n_layers = 3, .window = 0});
}

TEST(ProtectTest, TheBestKeepEverythingTheOthersForget) {
  const Model model = model_of(3);
  const HeadScores heads{{}, {{1, 0, 0}, {0, 0, 0.5f}, {0.9f, 0.8f, 0.7f}}};
  const auto tokens = random_tokens(3, model.config(), 90);
  const AnyPolicy inner = h2o({.rows = 20, .recent = 4});
  const Lists others = {{1, 2}, {0, 1, 2}, {2}};
  const Fed fed = feed(model, tokens, {8}, {.policy = protect(heads, {.share = 1 / 3.0f}, inner)});
  const Fed listed =
      feed(model, tokens, {8}, {.policy = for_heads(std::span<const std::vector<std::size_t>>(others), inner)});
  EXPECT_TRUE(same_bits(fed.logits, listed.logits));
  EXPECT_EQ(fed.drop_at, listed.drop_at);
  EXPECT_EQ(fed.stats.live_rows, (std::vector<std::size_t>{90 + 40, 60, 180 + 20}));
}

TEST(ProtectTest, OfAllHeadsForgetsNothingAndOfNoneAll) {
  const Model model = model_of(2);
  const auto tokens = random_tokens(3, model.config(), 60);
  const auto heads_of = static_cast<std::size_t>(model.config().n_kv_heads);
  const HeadScores heads{{}, std::vector(3, std::vector<float>(heads_of))};
  const Fed dense = feed(model, tokens, {16}, {.policy = per_head(none())});
  const Fed all = feed(model, tokens, {16}, {.policy = duo(heads, {.share = 1}, {.sinks = 2, .recent = 8})});
  EXPECT_TRUE(same_bits(all.logits, dense.logits));
  const Fed streamed = feed(model, tokens, {16}, {.policy = per_head(streaming({.sinks = 2, .recent = 8}))});
  const Fed no = feed(model, tokens, {16}, {.policy = duo(heads, {.share = 0}, {.sinks = 2, .recent = 8})});
  EXPECT_TRUE(same_bits(no.logits, streamed.logits));
  EXPECT_EQ(no.drop_at, streamed.drop_at);
}

TEST(ProtectTest, IsSpelledByItsFile) {
  const test::TempFolder folder;
  const auto path = folder.write("heads.tsv", "1\t0\n0\t0\n").string();
  const std::string protect_text = "protect(file=" + path + ",share=0.25,streaming(sinks=4,recent=508),gate(tau=0))";
  EXPECT_EQ(parse(protect_text).describe(), protect_text);
  EXPECT_EQ(parse("duo(file=" + path + ")").describe(), "duo(file=" + path + ",share=0.5,sinks=128,recent=256)");
  EXPECT_EQ(protect({{}, {{1, 0}}}, {}, streaming()).describe(), "for_heads(heads=0.1,streaming(sinks=4,recent=508))");
  test::expect_error(ErrorCode::argument, {"protect", "share", "0 to 1", "'2'"},
                     [&] { parse("protect(file=" + path + ",share=2,streaming)"); });
  test::expect_error(ErrorCode::argument, {"protect", "the policy that it applies"},
                     [&] { parse("protect(file=" + path + ")"); });
  test::expect_error(ErrorCode::argument, {"duo", "file="}, [] { parse("duo(share=1)"); });
  test::expect_error(ErrorCode::argument, {"duo: share", "at most 1"}, [] { duo({{}, {{1}}}, {.share = 2}); });
  test::expect_error(ErrorCode::argument, {"protect", "none"}, [] { protect({}, {}, streaming()); });
}

TEST(ProtectTest, OfAnotherModelIsRefusedByName) {
  const test::TempFolder folder;
  const Model model = model_of(3);
  const auto path = folder.write("heads.tsv", "1\t0\n0\t0\n").string();
  test::expect_error(ErrorCode::model, {path, "3 layers of 3 kv-heads", "2 layers of 2 kv-heads"},
                     [&] { Session session(model, {.policy = parse("duo(file=" + path + ")")}); });
}

// Of the layers 0 to 2, all but 1 slide: there is nothing to be kept whole in them.
TEST(ProtectTest, HeadsOfSlidingLayersHaveNoScores) {
  const Model model = random_model({.seed = 6, .architecture = Architecture::gemma3, .n_layers = 3, .window = 12});
  const auto heads_of = static_cast<std::size_t>(model.config().n_kv_heads);
  HeadScores heads{{}, std::vector(3, std::vector<float>(heads_of, 1))};
  const AnyPolicy inner = h2o({.rows = 10, .recent = 4});
  const auto open = [&] { Session session(model, {.policy = protect(heads, {.share = 1}, inner)}); };
  test::expect_error(ErrorCode::unsupported, {"policy", "null", "layer 0", "sliding window"}, open);
  for (const std::size_t layer : {0u, 2u})
    heads.scores[layer].assign(heads_of, -std::numeric_limits<float>::infinity());
  open();
  const auto tokens = random_tokens(6, model.config(), 60);
  const Fed fed = feed(model, tokens, {8}, {.policy = protect(heads, {.share = 1}, inner)});
  EXPECT_EQ(fed.stats.live_rows, (std::vector<std::size_t>{10 * heads_of, 60 * heads_of, 10 * heads_of}));
}

}  // namespace
}  // namespace pith::testing
