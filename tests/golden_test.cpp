// SPDX-License-Identifier: MIT
// The fixtures, however their tokens are fed: the expected logits, and exactly the expected drops.
#include "support/golden.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/compare.hpp"
#include "support/feed.hpp"

namespace pith::testing {
namespace {

constexpr double tolerance = 2e-4;  // of the largest magnitude of a row

class GoldenTest : public ::testing::TestWithParam<std::string> {};

void expect_golden(const Golden& expected, const Fed& fed) {
  EXPECT_LT(relative_error(fed.logits, expected.logits), tolerance);
  ASSERT_EQ(fed.drop_at.size(), expected.drop_at.size());
  for (std::size_t layer = 0; layer < fed.drop_at.size(); ++layer) {
    ASSERT_EQ(fed.drop_at[layer].size(), 1u) << "lanes of layer " << layer;
    EXPECT_EQ(fed.drop_at[layer][0], expected.drop_at[layer]) << "layer " << layer;
  }
}

TEST_P(GoldenTest, AreReproducedHoweverTheTokensAreFed) {
  const Golden expected = golden(GetParam());
  const Model model = Model::load(expected.path);
  for (const Feeding feeding : {Feeding{4096}, Feeding{64}, Feeding{7}, Feeding{1}, Feeding{Feeding::decode}}) {
    SCOPED_TRACE(feeding.name());
    expect_golden(expected, feed(model, expected.tokens, feeding));
  }
}

TEST_P(GoldenTest, AreReproducedBySeveralThreads) {
  const Golden expected = golden(GetParam());
  const Model model = Model::load(expected.path);
  for (const Feeding feeding : {Feeding{4096}, Feeding{64}, Feeding{Feeding::decode}}) {
    SCOPED_TRACE(feeding.name());
    expect_golden(expected, feed(model, expected.tokens, feeding, {.threads = 3}));
  }
}

TEST_P(GoldenTest, GreedyChoicesAreTheExpectedOnes) {
  const Golden expected = golden(GetParam());
  const Fed fed = feed(Model::load(expected.path), expected.tokens, {64});
  ASSERT_EQ(fed.logits.size(), expected.argmax.size());
  for (std::size_t t = 0; t < fed.logits.size(); ++t)
    EXPECT_EQ(std::ranges::max_element(fed.logits[t]) - fed.logits[t].begin(), expected.argmax[t]) << "token " << t;
}

TEST_P(GoldenTest, LiveRowsAreThoseNotDropped) {
  const Golden expected = golden(GetParam());
  const Model model = Model::load(expected.path);
  const Fed fed = feed(model, expected.tokens, {64});
  std::uint64_t dropped = 0;
  for (std::size_t layer = 0; layer < expected.drop_at.size(); ++layer) {
    // The next token would not see the first that the last one sees through a window.
    const std::size_t next = model.config().layers[layer].window > 0 ? 1 : 0;
    const auto live = static_cast<std::size_t>(std::ranges::count(expected.drop_at[layer], -1)) - next;
    EXPECT_EQ(fed.stats.live_rows[layer], live) << "layer " << layer;
    dropped += expected.tokens.size() - live;
  }
  EXPECT_EQ(fed.stats.dropped_rows, dropped);
  EXPECT_EQ(fed.stats.seen_rows, expected.tokens.size() * expected.drop_at.size());
}

class GgufGoldenTest : public ::testing::TestWithParam<std::string> {};

// Names, metadata and orders of rows as llama.cpp's converter writes them.
TEST_P(GgufGoldenTest, IsTheSameModel) {
  const Golden expected = golden(GetParam());
  const Model model = Model::load(expected.path / "model.gguf");
  for (const Feeding feeding : {Feeding{4096}, Feeding{7}, Feeding{Feeding::decode}}) {
    SCOPED_TRACE(feeding.name());
    expect_golden(expected, feed(model, expected.tokens, feeding));
  }
}

TEST(GoldenTest, OfPhi3IsShortWhereTheContextIs) {
  const Golden expected = golden("phi3");
  const auto logits = read_rows(expected.path / "short_logits.f32", expected.logits[0].size());
  for (const char* file : {"", "model.gguf"}) {
    const Model model = Model::load(expected.path / file);
    const int original = model.config().ropes[0].original_context;
    ASSERT_EQ(static_cast<std::size_t>(original), logits.size());
    const auto tokens = std::span(expected.tokens).first(logits.size());
    EXPECT_LT(relative_error(feed(model, tokens, {7}, {.context = original}).logits, logits), tolerance) << file;
    EXPECT_GT(relative_error(feed(model, tokens, {7}, {.context = original + 1}).logits, logits), 1e-2) << file;
  }
}

INSTANTIATE_TEST_SUITE_P(Transformers, GgufGoldenTest, ::testing::ValuesIn(transformers_names()), [](const auto& test) {
  std::string name = test.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenTest, ::testing::ValuesIn(golden_names()), [](const auto& test) {
  std::string name = test.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

INSTANTIATE_TEST_SUITE_P(Taught, GoldenTest, ::testing::Values("qwen3-dms"), [](const auto&) { return "qwen3_dms"; });

}  // namespace
}  // namespace pith::testing
