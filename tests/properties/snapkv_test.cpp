// SPDX-License-Identifier: MIT
// SnapKV pools over the prefix alone: what the window's tokens pay each other lends nothing to their neighbours before
// it.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "pith/prune/methods.hpp"
#include "support/feed.hpp"
#include "support/shared_data.hpp"

namespace pith::testing {
namespace {

std::vector<float> pooled(const std::vector<float>& attention, int window, int pool) {
  const KvLayouts layouts{PageLayout({.heads = 1, .head_dim = 1, .evidence = column::window})};
  PagePool pages(0);
  KvCache cache(layouts, pages, 1, 1, 0, DropLog::Keep::counts);
  // Any order of rows: the last come first.
  const auto n = static_cast<Position>(attention.size());
  const Lane& lane = cache.lanes(0)[0];
  for (Position born = n; born-- > 0;) {
    cache.append(0, born, never);
    lane.evidence(lane.slot(column::window), lane.rows() - 1) = attention[static_cast<std::size_t>(born)];
  }
  prune::Scratch scratch;
  const prune::Moment moment{.n_layers = 1, .first = 0, .next = n, .prompt_end = n, .scratch = &scratch};
  std::vector<float> scores(attention.size());
  prune::ObservationWindow{.window = window, .pool = pool}.score(cache.layer(0), 0, moment, scores);
  std::ranges::reverse(scores);
  return scores;
}

TEST(SnapKvTest, PoolsBeforeTheWindow) {
  const std::vector<float> attention = {1, 5, 0, 0, 2, 0, 0, 9, 8};
  EXPECT_EQ(pooled(attention, 2, 1), attention);
  EXPECT_EQ(pooled(attention, 2, 3), (std::vector<float>{5, 5, 5, 2, 2, 2, 0, 9, 8}));
  EXPECT_EQ(pooled(attention, 2, 5), (std::vector<float>{5, 5, 5, 5, 2, 2, 2, 9, 8}));
  EXPECT_EQ(pooled(attention, 2, 99), (std::vector<float>{5, 5, 5, 5, 5, 5, 5, 9, 8}));
  EXPECT_EQ(pooled(attention, 9, 3), attention) << "all are window";
}

TEST(SnapKvTest, EvictsTheLastOfThePrefixWhenNobodyAttendsToThem) {
  const std::vector<float> scores = pooled({3, 2, 1, 0, 0, 0, 50, 60}, 2, 7);
  EXPECT_EQ(scores[5], 1) << "its neighbours in the prefix, not the window";
}

TEST(SnapKvTest, KeepsOfAStoryWhatThePublishedMethodKeeps) {
  const auto ids = test::shared_data("fixtures/snapkv-edge-ids.json");
  const auto path = test::shared_data("data/models/stories260K");
  if (ids.empty()) GTEST_SKIP() << test::shared_absent("fixtures/snapkv-edge-ids.json");
  if (path.empty()) GTEST_SKIP() << test::shared_absent("data/models/stories260K");
  std::ifstream file(ids);
  const auto tokens = nlohmann::json::parse(file).get<std::vector<Token>>();
  ASSERT_EQ(tokens.size(), 64u);
  const Model model = Model::load(path);
  for (const Feeding feeding : {Feeding{256}, Feeding{9}}) {
    Session session(model, {.policy = prune::snapkv({.rows = 12, .window = 8, .pool = 7}, {.sinks = 0}),
                            .threads = 1,
                            .chunk = feeding.chunk,
                            .record_drops = true});
    const SequenceId sequence = session.add(tokens);
    session.step();
    session.push(sequence, tokens[0]);  // so that what the prompt's end has dropped counts as dropped
    session.step();
    const auto lane = session.drop_at(sequence)[1][0];
    std::vector<std::size_t> kept;
    for (std::size_t j = 0; j < 56; ++j)
      if (lane[j] < 0) kept.push_back(j);
    EXPECT_EQ(kept, (std::vector<std::size_t>{25, 26, 27, 28})) << feeding.name();
  }
}

}  // namespace
}  // namespace pith::testing
