// SPDX-License-Identifier: MIT
// How many rows may stay: the numbers of the papers.
#include "pith/prune/budgets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "pith/prune/evict.hpp"
#include "support/layer.hpp"

namespace pith::testing {
namespace {

using namespace prune;

std::vector<std::size_t> shared(const std::vector<Vector>& scores, std::size_t rows, float floor) {
  Layer l(scores.size(), 1);
  l.append(scores[0].size());
  std::vector<std::size_t> keep(scores.size());
  SharedRows{Rows{rows}, floor}.allot(l.layer(), l.moment(), scores, keep);
  return keep;
}

using Counts = std::vector<std::size_t>;

TEST(BudgetsTest, HeadsShareWhatTheirScoresAreWorth) {
  const std::vector<Vector> scores = {{.5f, .3f, .1f, .05f}, {.04f, .03f, .02f, .01f}};
  EXPECT_EQ(shared(scores, 2, 0.5f), (Counts{3, 1}));
  EXPECT_EQ(shared(scores, 2, 0), (Counts{4, 0}));
  EXPECT_EQ(shared(scores, 2, 1), (Counts{2, 2}));
  EXPECT_EQ(shared(scores, 9, 0.5f), (Counts{4, 4})) << "more than there are";
}

TEST(BudgetsTest, SparedRowsDoNotCompete) {
  // Two of each lane are spared: what is left goes to the best others, wherever they are.
  const std::vector<Vector> scores = {{infinity, infinity, .1f, .05f}, {infinity, infinity, .9f, .8f}};
  EXPECT_EQ(shared(scores, 3, 0.2f), (Counts{2, 4}));
  EXPECT_EQ(shared(scores, 2, 0.2f), (Counts{2, 2}));
  EXPECT_EQ(shared(scores, 1, 0.2f), (Counts{2, 2})) << "spared rows alone exceed the budget";
  EXPECT_EQ(shared({{.5f, .5f}, {.5f, .5f}}, 1, 0), (Counts{2, 0})) << "of equal scores the lower head's";
}

TEST(BudgetsTest, SlackIsExceededBeforeAnythingIsDue) {
  Layer l(2, 1);
  l.append(7);
  for (const std::size_t slack : {0u, 2u, 3u, 9u}) {
    EXPECT_EQ(Rows{4}.due(l.layer(), l.moment(), slack), slack < 3) << slack;
    EXPECT_EQ(SharedRows{Rows{4}}.due(l.layer(), l.moment(), slack), slack < 3) << slack;
  }
}

TEST(BudgetsTest, LayersShareWhatTheirScoresAreWorth) {
  Layer a(2, 1, column::window), b(1, 1, column::window);
  a.append(3);
  b.append(3);
  a.set(0, column::window, {.5f, .3f, .1f});
  a.set(1, column::window, {.02f, .01f, .03f});
  b.set(0, column::window, {.4f, .2f, .05f});
  const LayerMoment layers[] = {{a.layer(), a.moment(2)}, {b.layer(), b.moment(2)}};
  const Evict evict{ColumnScore{column::window}, RowsOfLayers{Rows{2}}, Recent{1}};
  EXPECT_TRUE(evict.needs().after_pass);
  evict.after_pass(layers);  // six rows: the three latest, and the three best others
  EXPECT_EQ(a.tokens(0), (Tokens{0, 1, 2}));
  EXPECT_EQ(a.tokens(1), (Tokens{2}));
  EXPECT_EQ(b.tokens(0), (Tokens{0, 2}));
  evict.after_pass(layers);
  EXPECT_EQ(a.tokens(0), (Tokens{0, 1, 2})) << "nothing more is due";
}

// Two kv-heads that differ have F = (0 + 1) / 2, two alike have F = 0.
TEST(BudgetsTest, LayersWhoseAttentionIsSpreadGetMore) {
  constexpr std::size_t tokens = 1000;
  Layer uneven(2, 1, column::mass), even(2, 1, column::mass), whole(2, 1, column::mass);
  for (Layer* const layer : {&uneven, &even, &whole}) {
    layer->append(tokens);
    layer->set(1, column::mass, Vector(tokens, 1));
    layer->set(0, column::mass, Vector(tokens, 1));
  }
  uneven.set(0, column::mass, {5, 7, 9});
  const LayerMoment layers[] = {{uneven.layer(), uneven.moment(2)}, {even.layer(), even.moment(2)}};
  const RowsByDensity budget{.rows = Rows{.share = 0.2f}, .first = 0, .last = 0};
  EXPECT_TRUE(budget.due(layers, 0));
  std::vector<std::size_t> keep(4);
  budget.allot(layers, {}, keep);
  const double part = 1 / (1 + std::exp(0.5));
  const auto less = static_cast<std::size_t>(std::lround(part * 400)), more = 400 - less;
  EXPECT_EQ(keep, (Counts{less, less, more, more}));

  // While decoding the rows are those of the prompt's end.
  LayerMoment later[] = {layers[0], layers[1]};
  for (LayerMoment& one : later) {
    one.moment.first = one.moment.next;
    one.moment.next += 1;
    one.moment.prompt_end = one.moment.first;
  }
  uneven.set(0, column::mass, {90, 90});
  EXPECT_TRUE(budget.due(later, 10)) << "nothing has been cut yet";
  EXPECT_FALSE(budget.due(later, tokens));
  budget.allot(later, {}, keep);
  EXPECT_EQ(keep, (Counts{less, less, more, more}));

  const LayerMoment last[] = {{whole.layer(), whole.moment(1)}};
  std::vector<std::size_t> all(2);
  RowsByDensity{.rows = Rows{200}, .first = 0, .last = 1}.allot(last, {}, all);
  EXPECT_EQ(all, (Counts{tokens, tokens})) << "the last layer is not judged";
}

Counts pyramid(std::size_t layers, std::size_t rows, int window, float steepness, std::size_t tokens) {
  Layer l(1, 1);
  l.append(tokens);
  Counts all;
  for (std::size_t layer = 0; layer < layers; ++layer)
    all.push_back(PyramidRows{Rows{rows}, window, steepness}.at(layer, l.moment(layers)));
  return all;
}

TEST(BudgetsTest, LowerLayersGetMore) {
  EXPECT_EQ(pyramid(4, 14, 2, 4, 100), (Counts{23, 17, 11, 5}));
  EXPECT_EQ(pyramid(4, 14, 2, 4, 20), (Counts{20, 16, 12, 8})) << "the first has no more than there are";
  EXPECT_EQ(pyramid(4, 14, 2, 4, 14), (Counts{14, 14, 14, 14})) << "nothing to cut";
  EXPECT_EQ(pyramid(2, 14, 2, 4, 100), (Counts{23, 5}));
  EXPECT_EQ(pyramid(1, 14, 2, 4, 100), (Counts{14}));
  for (const std::size_t rows : {11u, 30u, 57u}) {
    Counts all = pyramid(7, rows, 3, 20, 500);
    std::size_t sum = 0;
    for (const std::size_t one : all) sum += one;
    EXPECT_EQ(sum, 7 * rows);
    EXPECT_TRUE(std::ranges::is_sorted(all, std::greater_equal<>()));
  }
}

TEST(BudgetsTest, TokensThatLeaveAnAnswersEndAreJudgedOnce) {
  Counts all;
  for (const std::size_t layer : {0u, 1u, 2u, 3u}) all.push_back(LeavingAnswer{}.at(layer, 4));
  EXPECT_EQ(all, (Counts{14, 12, 7, 3}));  // 16 x .9 x (1, .868, .55, .232)
  EXPECT_EQ((LeavingAnswer{.share = 0}).at(0, 4), 1u);

  Layer l(1, 1, column::mass);
  l.append(5);
  const LeavingAnswer leaving{.recent = 3, .every = 4, .share = 0.5f, .last = 1};
  const Evict evict{ColumnScore{column::mass}, leaving, leaving};
  const auto answer = [&](std::size_t tokens) {
    for (; tokens > 0; --tokens) {
      l.append(1);
      Moment moment = l.moment();
      moment.first = moment.next - 1;
      moment.prompt_end = 5;
      evict.after_attention(l.layer(), moment);
    }
    return l.tokens();
  };
  EXPECT_EQ(answer(6).size(), 11u) << "three have left";
  l.set(0, column::mass, {0, 0, 0, 0, 0, 3, 1, 2, 1});
  EXPECT_EQ(answer(1), (Tokens{0, 1, 2, 3, 4, 5, 7, 9, 10, 11}));
  EXPECT_EQ(answer(3).size(), 13u);
  EXPECT_EQ(answer(1), (Tokens{0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 14, 15})) << "of equals the later, earlier ones never";
}

TEST(BudgetsTest, LazyLayersKeepWhatTheyLookAt) {
  const auto left = [](float threshold) {
    Layer l(1, 1, column::last);
    l.append(6);
    l.set(0, column::last, {.5f, .01f, .04f, 0, .25f, .2f});
    Evict{Recency{}, LazyLayers{1, 2, threshold}, Both{Sinks{1}, Recent{2}}}.after_attention(l.layer(), l.moment());
    return l.tokens();
  };
  EXPECT_EQ(left(0.9f), (Tokens{0, 4, 5})) << "0.95 of its attention is there";
  EXPECT_EQ(left(0.96f), (Tokens{0, 1, 2, 3, 4, 5}));
}

TEST(BudgetsTest, SlackIsPutUpWithAndThenCutToTheBudget) {
  Layer l(1, 1);
  const Evict evict{Recency{}, Rows{3}, NoneSpared{}, Discard{}, 2};
  for (const std::size_t rows : {1u, 2u, 3u, 4u, 5u, 3u, 4u, 5u, 3u}) {
    l.append(1);
    evict.after_attention(l.layer(), l.moment());
    EXPECT_EQ(l.lane(0).rows(), rows);
  }
}

TEST(BudgetsTest, AShareIsOfTheTokensSoFar) {
  Layer l(1, 1);
  for (std::size_t n = 1; n <= 40; ++n) {
    l.append(1);
    Evict{Recency{}, Rows{.share = 0.25f}, Recent{1}}.after_attention(l.layer(), l.moment());
    EXPECT_EQ(l.lane(0).rows(),
              std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(0.25 * static_cast<double>(n)))));
  }
}

}  // namespace
}  // namespace pith::testing
