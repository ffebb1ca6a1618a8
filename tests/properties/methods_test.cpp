// SPDX-License-Identifier: MIT
// The numbers of the papers' parts: what rows are worth, how many may stay, what becomes of the others.
#include "pith/prune/methods.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"

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

  /// As if the latest tokens were a pass of their own: q [tokens][query heads * head_dim].
  Moment pass(const Vector& q, std::size_t tokens) {
    Moment m = moment();
    m.first = next_ - static_cast<Position>(tokens);
    m.q = View<const float>(q.data(), tokens, q.size() / tokens);
    return m;
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

// One number to a head: queries 1 and 3 have the mean 2 and the variance 1; keys 1 and -1.
TEST(ScorersTest, ExpectsOfQueriesToComeWhatQueriesWere) {
  Layer l(1, 1);
  l.append({1}, {1});
  l.append({-1}, {2});
  const ExpectedAttention scorer{.sinks = 0};
  const Vector q = {1, 3};
  scorer.watch(l.layer(), l.pass(q, 2));
  Vector scores = l.scores(scorer);
  const double first = 1 / (1 + std::exp(-4.0));  // z = 2.5 and -1.5
  EXPECT_NEAR(scores[0], first, 1e-6);
  EXPECT_NEAR(scores[1], 2 * (1 - first), 1e-6);
  scores = l.scores(ExpectedAttention{.sinks = 0, .epsilon = .5f});
  EXPECT_NEAR(scores[1], 2 * (1.5 - first), 1e-6);
}

using Numbers = std::vector<double>;

Numbers turned(std::span<const float> x, double angle) {
  return {std::cos(angle) * x[0] - std::sin(angle) * x[1], std::sin(angle) * x[0] + std::cos(angle) * x[1]};
}

// Two numbers to a head that turn together: everything by its definition, in double precision.
TEST(ScorersTest, ExpectedAttentionUndoesTheRotationAndTurnsOn) {
  constexpr std::size_t tokens = 12;
  constexpr double frequency = 0.3, scale = 0.7;
  constexpr int ahead = 5;
  const double frequencies[] = {frequency};
  Random random(3);
  const auto normal = [&](std::size_t n) {
    Vector x(n);
    for (float& number : x) number = random.normal();
    return x;
  };
  for (const auto covariance : {ExpectedAttention::Covariance::none, ExpectedAttention::Covariance::diagonal,
                                ExpectedAttention::Covariance::full}) {
    const ExpectedAttention scorer{.sinks = 2, .covariance = covariance, .ahead = ahead};
    const Vector q = normal(tokens * 2), k = normal(tokens * 2), v = normal(tokens * 2);
    std::vector<Vector> scores;
    for (const std::size_t chunk : {std::size_t{1}, std::size_t{5}, tokens}) {
      Layer l(1, 2);
      Moment moment;
      for (std::size_t t = 0; t < tokens;) {
        const std::size_t count = std::min(chunk, tokens - t);
        Vector pass;
        for (std::size_t end = t + count; t < end; ++t) {
          const auto at = [&](const Vector& x) { return std::span(x).subspan(2 * t, 2); };
          const Numbers key = turned(at(k), frequency * static_cast<double>(t));
          l.append({static_cast<float>(key[0]), static_cast<float>(key[1])}, {at(v)[0], at(v)[1]});
          for (const double number : turned(at(q), frequency * static_cast<double>(t)))
            pass.push_back(static_cast<float>(number));
        }
        moment = l.pass(pass, count);
        moment.rotation = {.frequencies = frequencies};
        moment.query_scale = static_cast<float>(scale);
        scorer.watch(l.layer(), moment);
      }
      scorer.score(l.layer(), 0, moment, scores.emplace_back(tokens));
    }
    // The passes hold the same queries, so that nothing may differ.
    EXPECT_EQ(scores[0], scores[2]);
    EXPECT_EQ(scores[1], scores[2]);

    double mean[2] = {}, c[2][2] = {}, cosine = 0, sine = 0;
    for (std::size_t t = 2; t < tokens; ++t)
      for (std::size_t i = 0; i < 2; ++i) mean[i] += static_cast<double>(q[2 * t + i]) / (tokens - 2);
    for (std::size_t t = 2; t < tokens; ++t)
      for (std::size_t i = 0; i < 2; ++i)
        for (std::size_t j = 0; j < 2; ++j) {
          if (covariance == ExpectedAttention::Covariance::none) continue;
          if (covariance == ExpectedAttention::Covariance::diagonal && i != j) continue;
          c[i][j] += (static_cast<double>(q[2 * t + i]) - mean[i]) * (static_cast<double>(q[2 * t + j]) - mean[j]) /
                     (tokens - 2);
        }
    for (int p = 0; p < ahead; ++p) {
      cosine += std::cos(frequency * (static_cast<double>(tokens) + p)) / ahead;
      sine += std::sin(frequency * (static_cast<double>(tokens) + p)) / ahead;
    }
    const double r[2][2] = {{cosine, -sine}, {sine, cosine}};
    Numbers z(tokens);
    double sum = 0;
    for (std::size_t t = 2; t < tokens; ++t) {
      const Numbers key = turned(std::span(k).subspan(2 * t, 2), frequency * static_cast<double>(t));
      for (std::size_t i = 0; i < 2; ++i)
        for (std::size_t j = 0; j < 2; ++j) {
          z[t] += scale * key[i] * r[i][j] * mean[j];
          double turned_covariance = 0;  // R C R^T
          for (std::size_t a = 0; a < 2; ++a)
            for (std::size_t b = 0; b < 2; ++b) turned_covariance += r[i][a] * c[a][b] * r[j][b];
          z[t] += scale * scale / 2 * key[i] * turned_covariance * key[j];
        }
      sum += std::exp(z[t]);
    }
    EXPECT_EQ(scores[2][0], 0);
    for (std::size_t t = 2; t < tokens; ++t)
      EXPECT_NEAR(scores[2][t], std::exp(z[t]) / sum * std::hypot(v[2 * t], v[2 * t + 1]), 1e-5);
  }
}

// Keys a, b and c point alike, d does not: a is like b and c, b like c, and of those alike the latest is not blamed.
TEST(ScorersTest, WhatIsThereTwiceIsWorthLess) {
  Layer l(1, 2);
  for (const Vector& key : {Vector{1, 0}, Vector{2, 0}, Vector{3, 0}, Vector{0, 1}}) l.append(key, {0, 0});
  const Redundancy scorer{.window = 1, .pool = 1};
  const Vector nothing(8);  // queries that look everywhere alike
  scorer.watch(l.layer(), l.pass(nothing, 4));
  const Vector scores = l.scores(scorer);
  const double sum = std::exp(.5) + std::exp(.25) + 2;
  EXPECT_NEAR(scores[0], .07 / 3 - .93 * std::exp(.5) / sum, 1e-6);
  EXPECT_NEAR(scores[1], .07 / 3 - .93 * std::exp(.25) / sum, 1e-6);
  EXPECT_NEAR(scores[2], .07 / 3 - .93 / sum, 1e-6);
}

TEST(ScorersTest, TheLatestQueriesAreRememberedAcrossPasses) {
  Random random(5);
  Vector q(10), k(10);
  for (std::size_t i = 0; i < 10; ++i) {
    q[i] = random.normal();
    k[i] = random.normal();
  }
  const Redundancy scorer{.window = 3, .pool = 3, .weight = 1};
  std::vector<Vector> all;
  for (const std::size_t chunk : {1u, 2u, 10u}) {
    Layer l(1, 1);
    Moment moment;
    for (std::size_t t = 0; t < 10; t += chunk) {
      for (std::size_t i = t; i < t + chunk; ++i) l.append({k[i]}, {1});
      const Vector pass(q.begin() + static_cast<std::ptrdiff_t>(t), q.begin() + static_cast<std::ptrdiff_t>(t + chunk));
      moment = l.pass(pass, chunk);
      scorer.watch(l.layer(), moment);
    }
    scorer.score(l.layer(), 0, moment, all.emplace_back(10));
  }
  EXPECT_EQ(all[0], all[2]);
  EXPECT_EQ(all[1], all[2]);
  Numbers attention(7);
  for (std::size_t i = 7; i < 10; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < 7; ++j) sum += std::exp(static_cast<double>(q[i] * k[j]));
    for (std::size_t j = 0; j < 7; ++j) attention[j] += std::exp(static_cast<double>(q[i] * k[j])) / sum / 3;
  }
  for (std::size_t j = 0; j < 7; ++j) {
    double most = attention[j];
    if (j > 0) most = std::max(most, attention[j - 1]);
    if (j < 6) most = std::max(most, attention[j + 1]);
    EXPECT_NEAR(all[2][j], most, 1e-5);
  }
}

TEST(ScorersTest, KeysThatStandOutWithoutTheirRotation) {
  const double frequencies[] = {0.4};
  Random random(6);
  Layer plain(1, 2), rotated(1, 2);
  for (std::size_t t = 0; t < 20; ++t) {
    const Vector key = t == 11 ? Vector{-3, 8} : Vector{1 + random.normal(), random.normal() / 4};
    const Numbers turn = turned(key, frequencies[0] * static_cast<double>(t));
    plain.append(key, {1, 1});
    rotated.append({static_cast<float>(turn[0]), static_cast<float>(turn[1])}, {1, 1});
  }
  const Leverage scorer{.sinks = 1, .recent = 2};
  const Vector expected = plain.scores(scorer);
  EXPECT_EQ(std::ranges::max_element(expected) - expected.begin(), 11);
  double sum = 0, square = 0;
  for (std::size_t t = 1; t < 18; ++t) {
    sum += static_cast<double>(expected[t]);
    square += static_cast<double>(expected[t]) * static_cast<double>(expected[t]);
  }
  EXPECT_NEAR(sum, 0, 1e-5);
  EXPECT_NEAR(square / 16, 1, 1e-5) << "in standard deviations";
  Moment moment = rotated.moment();
  moment.rotation = {.frequencies = frequencies};
  Vector scores(20);
  scorer.score(rotated.layer(), 0, moment, scores);
  for (std::size_t t = 0; t < 20; ++t) EXPECT_NEAR(scores[t], expected[t], 1e-3);

  // A projection to many dimensions turns and stretches, and leverage does not mind: here it is by its definition.
  double mean[2] = {}, g[2][2] = {};
  Vector key(2);
  const auto centred = [&](std::size_t t) {
    plain.lane(0).row(t).key(0, key);
    return Numbers{static_cast<double>(key[0]) - mean[0], static_cast<double>(key[1]) - mean[1]};
  };
  for (std::size_t t = 1; t < 18; ++t) {
    plain.lane(0).row(t).key(0, key);
    for (std::size_t i = 0; i < 2; ++i) mean[i] += static_cast<double>(key[i]) / 17;
  }
  for (std::size_t t = 1; t < 18; ++t)
    for (std::size_t i = 0; i < 2; ++i)
      for (std::size_t j = 0; j < 2; ++j) g[i][j] += centred(t)[i] * centred(t)[j];
  const double determinant = g[0][0] * g[1][1] - g[0][1] * g[1][0];
  Numbers leverage;
  double middle = 0, spread = 0;
  for (std::size_t t = 1; t < 18; ++t) {
    const Numbers x = centred(t);
    leverage.push_back((x[0] * x[0] * g[1][1] - 2 * x[0] * x[1] * g[0][1] + x[1] * x[1] * g[0][0]) / determinant);
    middle += leverage.back() / 17;
  }
  for (const double one : leverage) spread += (one - middle) * (one - middle) / 16;
  for (std::size_t t = 1; t < 18; ++t) EXPECT_NEAR(expected[t], (leverage[t - 1] - middle) / std::sqrt(spread), 1e-2);
}

// Five tokens, of which the first and the last are spared: blocks of two are tokens 1 and 2, and token 3 alone.
TEST(ScorersTest, ABlockIsSeenByAllOfIt) {
  const Vector q = {9, .5f, -1, 2, 9}, k = {9, 1, -.5f, .3f, 9}, v = {1, 1, 2, 3, 1};
  const BlockAttention scorer{.leverage = {.sinks = 1, .recent = 1}, .blend = 0, .block = 2};
  for (const std::size_t chunk : {1u, 5u}) {
    Layer l(1, 1, BlockAttention::received);
    Moment moment;
    for (std::size_t t = 0; t < 5; t += chunk) {
      for (std::size_t i = t; i < t + chunk; ++i) l.append({k[i]}, {v[i]});
      const Vector pass(q.begin() + static_cast<std::ptrdiff_t>(t), q.begin() + static_cast<std::ptrdiff_t>(t + chunk));
      moment = l.pass(pass, chunk);
      moment.prompt_end = 5;
      scorer.watch(l.layer(), moment);
    }
    EXPECT_EQ(l.lane(0).state_bytes(), 0u) << "nothing is left of the queries";
    double first = 0;
    for (const std::size_t i : {1u, 2u}) first += 1 / (1 + std::exp(static_cast<double>(q[i] * (k[2] - k[1]))));
    const Slot received = l.lane(0).slot(BlockAttention::received);
    EXPECT_NEAR(l.lane(0).evidence(received, 1), first, 1e-6);
    EXPECT_NEAR(l.lane(0).evidence(received, 2), 2 - first, 1e-6);
    EXPECT_NEAR(l.lane(0).evidence(received, 3), 1, 1e-6);
    Vector scores(5);
    scorer.score(l.layer(), 0, moment, scores);
    const double given[] = {first, 2 * (2 - first), 3};
    const double pooled[] = {(given[0] + given[1]) / 3, (given[0] + given[1] + given[2]) / 3,
                             (given[1] + given[2]) / 3};
    const double middle = (pooled[0] + pooled[1] + pooled[2]) / 3;
    double spread = 0;
    for (const double one : pooled) spread += (one - middle) * (one - middle) / 2;
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(scores[i + 1], (pooled[i] - middle) / std::sqrt(spread), 1e-4);
  }
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

// With the same keys and values, u = .8: e 2 / (e + e^.8) and e^.8 / (e + e^.8).
TEST(ReclaimTest, ValuesAreMergedWhereKeysAreAlikeEnough) {
  for (const float threshold : {0.f, .8f, 1.1f}) {
    Layer m(1, 2, column::mass);
    m.append({1, 0}, {2, 0});
    m.append({.8f, .6f}, {0, 1});
    m.append({-1, 0}, {7, 7});
    m.set(0, column::mass, {3, 2, 1});
    if (threshold > 0) m.lane(0).state(MergeAlike::state) = {threshold};
    const std::size_t victims[] = {1};
    const Vector scores(3);
    const KvLayer layer = m.layer();
    const Moment moment = m.moment();
    MergeAlike{.memory = threshold > 0 ? 1.f : .5f}(Cut{layer, 0, victims, scores, moment});
    Vector value(2);
    m.lane(0).row(0).value(0, value);
    if (threshold > 1) {
      EXPECT_EQ(value, (Vector{2, 0}));
      EXPECT_EQ(m.lane(0).evidence(m.lane(0).slot(column::mass), 0), 3);
    } else {
      EXPECT_NEAR(value[0], 1.0997, 1e-4);
      EXPECT_NEAR(value[1], .4502, 1e-4);
      EXPECT_EQ(m.lane(0).evidence(m.lane(0).slot(column::mass), 0), 5);
      EXPECT_NEAR(m.lane(0).state(MergeAlike::state)[0], .8, 1e-6) << "at first the mean of this cut's";
    }
    m.lane(0).row(2).value(0, value);
    EXPECT_EQ(value, (Vector{7, 7}));
  }
}

TEST(ReclaimTest, TheThresholdFollowsWhatIsCut) {
  Layer m(1, 2);
  m.append({1, 0}, {2, 0});
  m.append({.6f, .8f}, {0, 1});
  m.lane(0).state(MergeAlike::state) = {1};
  const std::size_t victims[] = {1};
  const Vector scores(2);
  const KvLayer layer = m.layer();
  const Moment moment = m.moment();
  MergeAlike{.memory = .75f}(Cut{layer, 0, victims, scores, moment});
  EXPECT_NEAR(m.lane(0).state(MergeAlike::state)[0], .75 + .25 * .6, 1e-6);
}

TEST(MethodsTest, BudgetsBelowWhatIsSparedAreRefused) {
  test::expect_error(ErrorCode::argument, {"h2o: rows", "260", "100"}, [] { h2o({.rows = 100}); });
  test::expect_error(ErrorCode::argument, {"snapkv: rows", "36", "30"}, [] { snapkv({.rows = 30}); });
  test::expect_error(ErrorCode::argument, {"tova: rows", "5", "4"}, [] { tova({.rows = 4}); });
  test::expect_error(ErrorCode::argument, {"d2o: rows", "68", "60"}, [] { d2o({.rows = 60}); });
  test::expect_error(ErrorCode::argument, {"layer_defensivekv: rows", "36", "30"},
                     [] { layer_defensivekv({.rows = 30}); });
  h2o({.rows = 100}, {.share = 0.5f});  // as many as that share comes to
}

TEST(MethodsTest, OptionsOutOfRangeAreRefusedByName) {
  test::expect_error(ErrorCode::argument, {"adakv: floor", "at most 1", "2"}, [] { adakv({}, {.floor = 2}); });
  test::expect_error(ErrorCode::argument, {"h2o: share", "at least 0", "-0.5"}, [] { h2o({}, {.share = -0.5f}); });
  test::expect_error(ErrorCode::argument, {"lagkv: lag", "at least 2", "1"}, [] { lagkv({.lag = 1}); });
  test::expect_error(ErrorCode::argument, {"rkv: weight", "at most 1", "2"}, [] { rkv({.weight = 2}); });
  test::expect_error(ErrorCode::argument, {"expected_attention: cov", "at most 2", "3"},
                     [] { expected_attention({}, {.cov = 3}); });
  test::expect_error(ErrorCode::argument, {"defensivekv: pool must be odd"}, [] { defensivekv({.pool = 4}); });
  test::expect_error(ErrorCode::argument, {"pyramidkv: pool must be odd"}, [] { pyramidkv({.pool = 4}); });
  test::expect_error(ErrorCode::argument, {"gate: tau"}, [] { learned_gate({.tau = std::nanf("")}); });
}

}  // namespace
}  // namespace pith::testing
