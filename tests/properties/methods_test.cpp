// SPDX-License-Identifier: MIT
// The numbers of the papers' parts: what rows are worth, how many may stay, what becomes of the others.
#include "pith/prune/methods.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "support/files.hpp"

namespace pith::testing {
namespace {

using namespace prune;

constexpr float infinity = std::numeric_limits<float>::infinity();
using Vector = std::vector<float>;

/// One layer whose kv-heads have lanes of their own; token j is row j of each.
class Layer {
 public:
  Layer(std::size_t lanes, std::size_t head_dim, const Columns& columns = {})
      : layouts_{PageLayout({.heads = 1, .head_dim = head_dim, .evidence = columns})},
        pool_(0),
        cache_(layouts_, pool_, 1, lanes, 0, DropLog::Keep::history) {}

  const Lane& lane(std::size_t l) { return cache_.lanes(0)[l]; }
  KvLayer layer() { return cache_.layer(0); }

  void append(const Vector& key, const Vector& value) {
    cache_.append(0, next_++, never);
    for (const Lane& lane : cache_.lanes(0)) {
      lane.row(lane.rows() - 1).set_key(0, key);
      lane.row(lane.rows() - 1).set_value(0, value);
    }
  }
  void append(std::size_t n) {
    for (; n > 0; --n) append(Vector(head_dim(), 1), Vector(head_dim(), 1));
  }
  void set(std::size_t l, Column column, const Vector& numbers) {
    for (std::size_t row = 0; row < numbers.size(); ++row) lane(l).evidence(lane(l).slot(column), row) = numbers[row];
  }

  Moment moment(std::size_t n_layers = 1) {
    return {
        .n_layers = n_layers, .first = 0, .next = next_, .prompt_end = next_, .threads = &one_, .scratch = &scratch_};
  }

  template <class S>
  Vector scores(const S& scorer, std::size_t l = 0) {
    Vector out(lane(l).rows());
    scorer.score(layer(), l, moment(), out);
    return out;
  }

  std::vector<Position> tokens(std::size_t l = 0) {
    std::vector<Position> all;
    for (std::size_t row = 0; row < lane(l).rows(); ++row) all.push_back(lane(l).born(row));
    std::ranges::sort(all);
    return all;
  }

 private:
  std::size_t head_dim() { return lane(0).layout().shape().head_dim; }

  KvLayouts layouts_;
  PagePool pool_;
  KvCache cache_;
  Scratch scratch_;
  Threads one_{1};
  Position next_ = 0;
};

using Tokens = std::vector<Position>;

TEST(ScorersTest, KeysUnlikeTheOthersAreWorthMore) {
  Layer l(1, 2);
  for (const Vector& key : {Vector{1, 0}, Vector{2, 0}, Vector{0, 1}}) l.append(key, {0, 0});
  const Vector scores = l.scores(KeyDifference{});  // the anchor is (2, 1) / 3
  EXPECT_NEAR(scores[0], -0.894, 1e-3);
  EXPECT_NEAR(scores[1], -0.894, 1e-3);
  EXPECT_NEAR(scores[2], -0.447, 1e-3);
  l.append({0, 0}, {0, 0});
  EXPECT_EQ(l.scores(KeyDifference{})[3], 0) << "a key of no length points nowhere";
}

TEST(ScorersTest, ShortKeysAreWorthMore) {
  Layer l(1, 2);
  l.append({3, 4}, {0, 0});
  l.append({0, 1}, {0, 0});
  EXPECT_EQ(l.scores(KeyNorm{}), (Vector{-5, -1}));
}

TEST(ScorersTest, LongRowsAreWorthTheirShareOfTheirBlock) {
  Layer l(1, 2);
  l.append({1, 0}, {0, 2});
  l.append({0, 2}, {1, 0});
  l.append({3, 0}, {0, 3});
  l.append({0, 0}, {0, 0});
  const Vector scores = l.scores(NormShare{.block = 2});
  EXPECT_NEAR(scores[0], 1. / 5 * 4 / 5, 1e-6);
  EXPECT_NEAR(scores[1], 4. / 5 * 1 / 5, 1e-6);
  EXPECT_NEAR(scores[2], 1, 1e-6);
  EXPECT_NEAR(scores[3], 0, 1e-6);
}

TEST(ScorersTest, AttentionPerQueryDoesNotFavourTheOld) {
  Layer l(1, 1, column::mass);
  l.append(3);
  l.set(0, column::mass, {0.9f, 0.8f, 0.6f});
  const Vector scores = l.scores(MassPerQuery{});
  EXPECT_NEAR(scores[0], 0.3, 1e-6);
  EXPECT_NEAR(scores[1], 0.4, 1e-6);
  EXPECT_NEAR(scores[2], 0.6, 1e-6);
}

// Two channels; the next part's range is [0, 1] in both, so a row's deviation is |x - y| / sqrt 2.
TEST(ScorersTest, APartIsJudgedByTheRangeOfTheNext) {
  Layer l(1, 2);
  l.append({9, 9}, {9, 9});  // a sink
  for (const Vector& x : {Vector{0.5f, 0.5f}, Vector{0, 1}, Vector{0, 0.5f}}) l.append(x, x);
  for (const Vector& x : {Vector{0, 0}, Vector{1, 1}, Vector{0, 1}}) l.append(x, x);
  l.append({5, 5}, {5, 5});
  const Vector scores = l.scores(LagDeviation{.sinks = 1, .lag = 3});
  EXPECT_EQ(scores[0], infinity);
  EXPECT_NEAR(scores[1], 0. / 3, 1e-6);
  EXPECT_NEAR(scores[2], 2. / 3, 1e-6);
  EXPECT_NEAR(scores[3], 1. / 3, 1e-6);
  for (std::size_t row = 4; row < 8; ++row) EXPECT_EQ(scores[row], infinity) << "no part follows it";
  const Vector few = l.scores(LagDeviation{.sinks = 2, .lag = 4});
  EXPECT_EQ(std::ranges::count(few, infinity), 8) << "too short for two parts";
}

TEST(ScorersTest, AChannelWithoutRangeCountsNothing) {
  Layer l(1, 2);
  for (const Vector& x : {Vector{0, 7}, Vector{1, -7}, Vector{0, 3}, Vector{1, 3}}) l.append(x, x);
  const Vector scores = l.scores(LagDeviation{.sinks = 0, .lag = 2});
  EXPECT_NEAR(scores[0], 0, 1e-6);
  EXPECT_NEAR(scores[1], 0.5, 1e-6);
}

// s = (.4, .3, .2, .1), and values come to (1, 1, 5, 1) in the output: half of two rows by attention, half by both.
TEST(ScorersTest, HalfIsChosenByWhatValuesComeTo) {
  Layer l(1, 2, column::window);
  for (const float v : {1.f, 1.f, 5.f, 1.f}) l.append({1, 0}, {v, 0});
  l.set(0, column::window, {.4f, .3f, .2f, .1f});
  const Vector wo = {.25f, 9, -.75f, 9};  // [2, 2]: |W_o^T v|_1 = |v_0|, as v_1 = 0
  const Matrix matrix = Matrix::encode(Format::f32, View<const float>{wo.data(), 2, 2, 2});
  Moment moment = l.moment();
  moment.wo = &matrix;
  const Critical scorer{ColumnScore{column::window}, Rows{2}, NoneSpared{}, 1};
  Vector scores(4);
  scorer.score(l.layer(), 0, moment, scores);
  EXPECT_EQ(scores[0], std::numeric_limits<float>::max());
  EXPECT_NEAR(scores[1], .3001, 1e-6);
  EXPECT_NEAR(scores[2], 5 * .2001, 1e-5);
  EXPECT_NEAR(scores[3], .1001, 1e-6);
  Evict{scorer, Rows{2}}.after_attention(l.layer(), moment);
  EXPECT_EQ(l.tokens(), (Tokens{0, 2}));
}

TEST(ScorersTest, JointIsOneVerdictForAllLanes) {
  Layer l(2, 1, column::last);
  l.append(3);
  l.set(0, column::last, {.1f, .5f, .2f});
  l.set(1, column::last, {.6f, .1f, .2f});
  const Joint joint{ColumnScore{column::last}};
  for (const std::size_t lane : {std::size_t{0}, std::size_t{1}}) {
    const Vector scores = l.scores(joint, lane);
    EXPECT_NEAR(scores[0], .7, 1e-6);
    EXPECT_NEAR(scores[1], .6, 1e-6);
    EXPECT_NEAR(scores[2], .4, 1e-6);
  }
  Evict{joint, Rows{2}}.after_attention(l.layer(), l.moment());
  EXPECT_EQ(l.tokens(0), (Tokens{0, 1}));
  EXPECT_EQ(l.tokens(1), (Tokens{0, 1}));
}

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
  EXPECT_EQ(pyramid(1, 14, 2, 4, 100), (Counts{14}));
  for (const std::size_t rows : {11u, 30u, 57u}) {
    Counts all = pyramid(7, rows, 3, 20, 500);
    std::size_t sum = 0;
    for (const std::size_t one : all) sum += one;
    EXPECT_EQ(sum, 7 * rows);
    EXPECT_TRUE(std::ranges::is_sorted(all, std::greater_equal<>()));
  }
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

// k_j = (1, 0), v_j = (2, 0), k_i = (.8, .6), v_i = (0, 1): w = .8 / 3.
TEST(ReclaimTest, ValuesOfWhatLeavesAreMergedIntoTheNearest) {
  Layer m(1, 2);
  m.append({1, 0}, {2, 0});
  m.append({.8f, .6f}, {0, 1});
  m.append({-1, 0}, {7, 7});
  const std::size_t victims[] = {1};
  const Vector scores(3);
  const KvLayer layer = m.layer();
  const Moment moment = m.moment();
  MergeValues{}(Cut{layer, 0, victims, scores, moment});
  Vector value(2);
  m.lane(0).row(0).value(0, value);
  EXPECT_NEAR(value[0], 2 / (1 + .8 / 3), 1e-4);
  EXPECT_NEAR(value[1], (.8 / 3) / (1 + .8 / 3), 1e-4);
  m.lane(0).row(2).value(0, value);
  EXPECT_EQ(value, (Vector{7, 7})) << "its key points the other way";
  Vector key(2);
  m.lane(0).row(0).key(0, key);
  EXPECT_EQ(key, (Vector{1, 0}));
}

TEST(MethodsTest, BudgetsBelowWhatIsSparedAreRefused) {
  test::expect_error(ErrorCode::argument, {"h2o: rows", "260", "100"}, [] { h2o({.rows = 100}); });
  test::expect_error(ErrorCode::argument, {"snapkv: rows", "36", "30"}, [] { snapkv({.rows = 30}); });
  test::expect_error(ErrorCode::argument, {"tova: rows", "5", "4"}, [] { tova({.rows = 4}); });
  h2o({.rows = 100}, {.share = 0.5f});  // as many as that share comes to
}

TEST(MethodsTest, OptionsOutOfRangeAreRefusedByName) {
  test::expect_error(ErrorCode::argument, {"adakv: floor", "at most 1", "2"}, [] { adakv({}, {.floor = 2}); });
  test::expect_error(ErrorCode::argument, {"h2o: share", "at least 0", "-0.5"}, [] { h2o({}, {.share = -0.5f}); });
  test::expect_error(ErrorCode::argument, {"lagkv: lag", "at least 2", "1"}, [] { lagkv({.lag = 1}); });
  test::expect_error(ErrorCode::argument, {"pyramidkv: pool must be odd"}, [] { pyramidkv({.pool = 4}); });
  test::expect_error(ErrorCode::argument, {"gate: tau"}, [] { learned_gate({.tau = std::nanf("")}); });
}

}  // namespace
}  // namespace pith::testing
