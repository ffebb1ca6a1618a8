// SPDX-License-Identifier: MIT
// What rows are worth by their keys, values and columns: the numbers of the papers.
#include "pith/prune/scorers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "pith/prune/evict.hpp"
#include "support/layer.hpp"
#include "support/random.hpp"

namespace pith::testing {
namespace {

using namespace prune;

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
  const Vector scores = l.scores(PerQuery{column::mass});
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

// Whatever a channel's numbers lie about, and however far apart.
TEST(ScorersTest, ARangeIsFromItsLeastToItsMost) {
  constexpr float middle[] = {-3, 40}, width[] = {2, 0.5f};
  Layer plain(1, 2), moved(1, 2);
  Random random(4);
  for (int t = 0; t < 12; ++t) {
    const Vector x = {random.normal(), random.normal()};
    const Vector y = {middle[0] + width[0] * x[0], middle[1] + width[1] * x[1]};
    plain.append(x, x);
    moved.append(y, y);
  }
  const LagDeviation scorer{.sinks = 1, .lag = 4};
  const Vector expected = plain.scores(scorer);
  EXPECT_EQ(std::set<float>(expected.begin() + 1, expected.begin() + 5).size(), 4u);
  EXPECT_EQ(moved.scores(scorer), expected);
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

TEST(ScorersTest, WhatValuesComeToIsFoundAlikeByAnyNumberOfThreads) {
  constexpr std::size_t tokens = 300, dim = 32;
  Layer l(1, dim);
  Random random(9);
  const auto normal = [&](std::size_t n) {
    Vector x(n);
    for (float& number : x) number = random.normal();
    return x;
  };
  for (std::size_t t = 0; t < tokens; ++t) l.append(Vector(dim), normal(dim));
  const Vector wo = normal(70 * dim);
  const Matrix matrix = Matrix::encode(Format::f32, View<const float>{wo.data(), 70, dim});
  std::vector<Vector> found;
  for (const int count : {1, 2, 3}) {
    const Threads threads(count);
    Moment moment = l.moment();
    moment.wo = &matrix;
    moment.threads = threads;
    found.emplace_back(tokens, 1.0f);
    threads.gather([&] { weigh_by_output(l.layer(), 0, moment, found.back()); });
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
  Vector value(dim);
  l.lane(0).row(299).value(0, value);
  double sum = 0;
  for (std::size_t out = 0; out < 70; ++out) {
    double one = 0;
    for (std::size_t c = 0; c < dim; ++c) one += static_cast<double>(wo[out * dim + c]) * static_cast<double>(value[c]);
    sum += std::abs(one);
  }
  EXPECT_NEAR(found[0][299], sum, 1e-3);
}

/// [1, head_dim] W_o of one head, such that |W_o^T v|_1 = |v_0|.
Matrix first_number(std::size_t head_dim) {
  Vector wo(head_dim, 0);
  wo[0] = 1;
  return Matrix::encode(Format::f32, View<const float>{wo.data(), 1, head_dim});
}

// Of four queries, each gives token 0 .3; one gives token 1 .9, the others nothing.
TEST(ScorersTest, WhatMattersOnceIsWorthMore) {
  Layer l(1, 2, column::window | column::peak | WorstCase::output_norm);
  l.append(6);
  l.set(0, column::window, {1.2f, .9f});
  l.set(0, column::peak, {.3f, .9f});
  const Matrix wo = first_number(2);
  Moment moment = l.moment();
  moment.wo = &wo;
  const WorstCase scorer{.window = 4, .pool = 1, .rows = Rows{5}, .sure = 0};
  Vector scores(6);
  scorer.score(l.layer(), 0, moment, scores);
  EXPECT_NEAR(scores[0], .6, 1e-6) << "at least the mean";
  EXPECT_NEAR(scores[1], .9, 1e-6);
  Evict{scorer, Rows{5}, Recent{4}}.after_attention(l.layer(), moment);
  EXPECT_EQ(l.tokens(), (Tokens{1, 2, 3, 4, 5}));
}

TEST(ScorersTest, TheWorstCaseIsWeighedByWhatAHeadCanMove) {
  Layer l(2, 1, column::window | column::peak | WorstCase::output_norm);
  l.append(3);
  for (const std::size_t lane : {0u, 1u}) {
    l.set(lane, column::peak, {.4f, .2f});
    l.lane(lane).row(0).set_value(0, Vector{lane == 0 ? 1.f : 3.f});
  }
  const Vector ones = {1, 1};
  const Matrix wo = Matrix::encode(Format::f32, View<const float>{ones.data(), 1, 2});
  Moment moment = l.moment();
  moment.wo = &wo;
  const WorstCase scorer{.window = 1, .pool = 1, .rows = Rows{3}, .sure = 0};
  Vector scores(3);
  scorer.score(l.layer(), 0, moment, scores);
  EXPECT_NEAR(scores[0], .4 * 1 / 4, 1e-6);
  EXPECT_NEAR(scores[1], .3 * 1 / 2, 1e-6);
  scorer.score(l.layer(), 1, moment, scores);
  EXPECT_NEAR(scores[0], .4 * 3 / 4, 1e-6);
}

TEST(ScorersTest, TheTokensOfMostAttentionAreSure) {
  // Of all attention .1 lies on the window, and .1 on a sink: with .5 and .15 more, .85 of it is reached.
  const auto sure = [](float part, std::size_t rows) {
    Layer l(1, 1, column::window | column::peak | WorstCase::output_norm);
    l.append(7);
    l.set(0, column::window, {.2f, .1f, .3f, 1, .04f, .16f, .2f});
    const Matrix wo = first_number(1);
    Moment moment = l.moment();
    moment.wo = &wo;
    Vector scores(7);
    WorstCase{.window = 1, .pool = 1, .rows = Rows{rows}, .sinks = 1, .sure = part}.score(l.layer(), 0, moment, scores);
    Tokens all;
    for (Position j = 0; j < 7; ++j)
      if (scores[static_cast<std::size_t>(j)] == std::numeric_limits<float>::max()) all.push_back(j);
    return all;
  };
  EXPECT_EQ(sure(.8f, 7), (Tokens{2, 3}));
  EXPECT_EQ(sure(.86f, 7), (Tokens{2, 3, 5}));
  EXPECT_EQ(sure(.86f, 4), (Tokens{2, 3})) << "no more than may stay";
  EXPECT_EQ(sure(.19f, 7), Tokens{}) << "window and sink have it";
}

// Query 1 weighs tokens 0 and 1 by (.7, .3), query 2 weighs tokens 0 to 2 by (.2, .1, .7).
TEST(ScorersTest, AttendedLatelyAndAttendedOften) {
  const auto left = [](Column column, const Vector& numbers) {
    Layer l(1, 1, column);
    l.append(3);
    l.set(0, column, numbers);
    Evict{ColumnScore{column}, Rows{2}}.after_attention(l.layer(), l.moment());
    return l.tokens();
  };
  EXPECT_EQ(left(column::last_attended, {1, 1, 2}), (Tokens{1, 2}));
  EXPECT_EQ(left(column::times, {2, 1, 1}), (Tokens{0, 2}));
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

}  // namespace
}  // namespace pith::testing
