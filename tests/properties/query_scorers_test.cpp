// SPDX-License-Identifier: MIT
// What rows are worth by the queries so far, and behind their rotation: the numbers of the papers.
#include "pith/prune/query_scorers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "support/layer.hpp"
#include "support/random.hpp"

namespace pith::testing {
namespace {

using namespace prune;

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

/// Of rows with these keys and values, whose queries [token][query head * head_dim] were these: `group` heads of one
/// kv-head.
Vector expected_scores(const std::vector<Vector>& keys, const std::vector<Vector>& values, const Vector& q,
                       std::size_t group) {
  Layer l(1, keys[0].size());
  for (std::size_t t = 0; t < keys.size(); ++t) l.append(keys[t], values[t]);
  Moment moment = l.pass(q, keys.size());
  moment.group = group;
  const ExpectedAttention scorer{.sinks = 0};
  scorer.watch(l.layer(), moment);
  Vector out(keys.size());
  scorer.score(l.layer(), 0, moment, out);
  return out;
}

TEST(ScorersTest, ExpectsOfEachQueryHeadWhatItsQueriesWere) {
  const auto scores = [](const Vector& q, std::size_t group) {
    return expected_scores({{1}, {-1}}, {{1}, {2}}, q, group);
  };
  const Vector first = scores({1, 3}, 1), second = scores({-2, .5f}, 1), both = scores({1, -2, 3, .5f}, 2);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(both[i], (first[i] + second[i]) / 2, 1e-6);
}

// Two query heads that share keys of two numbers, beside each alone.
TEST(ScorersTest, ExpectsOfEachQueryHeadAllNumbersOfItsQueries) {
  const auto scores = [](const Vector& q, std::size_t group) {
    return expected_scores({{1, .5f}, {-1, 2}, {.3f, -1}}, {{1, 0}, {0, 2}, {1, 1}}, q, group);
  };
  const Vector first = scores({1, 3, -1, .5f, 2, 1}, 1), second = scores({-2, .5f, .2f, 4, 1, -3}, 1);
  const Vector both = scores({1, 3, -2, .5f, -1, .5f, .2f, 4, 2, 1, 1, -3}, 2);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(both[i], (first[i] + second[i]) / 2, 1e-6);
  EXPECT_GT(std::abs(first[0] - second[0]), 0.1);
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

/// What the scorer says once it has seen two tokens of a lane that remembered `numbers`.
template <class S>
Vector scores_after(const S& scorer, const Vector& numbers) {
  Layer l(1, 1);
  l.append({.5f}, {1});
  l.append({-1}, {2});
  l.lane(0).state(S::state) = numbers;
  const Vector q = {1, 3};
  const Moment moment = l.pass(q, 2);
  scorer.watch(l.layer(), moment);
  Vector out(2);
  scorer.score(l.layer(), 0, moment, out);
  return out;
}

// Saved sessions may be forged.
TEST(ScorersTest, WhatIsRememberedMayBeAnyNumbers) {
  const auto expect_fresh = [](const auto& scorer, std::size_t count) {
    const Vector fresh = scores_after(scorer, {});
    for (const std::size_t other : {std::size_t{1}, count - 1, count + 1, std::size_t{1000}})
      EXPECT_EQ(scores_after(scorer, Vector(other, 3e38f)), fresh) << other;
  };
  const ExpectedAttention scorer{.sinks = 0, .covariance = ExpectedAttention::Covariance::none};
  expect_fresh(scorer, 3);
  expect_fresh(Redundancy{.window = 1, .pool = 1}, 2);
  for (const float at : {std::nanf(""), infinity, -infinity, 3e9f, -1.0f})
    EXPECT_EQ(scores_after(scorer, {at, 0, 0}), scores_after(scorer, {})) << at;
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

// Sketches are those of the kv-heads, whichever lane they lie in.
TEST(ScorersTest, ALaneOfSeveralHeadsIsWorthWhatTheyAreWorth) {
  constexpr std::size_t tokens = 20;
  Layer together(1, 2, {}, 2), apart(2, 2);
  Random random(7);
  for (std::size_t t = 0; t < tokens; ++t) {
    const Vector first = {random.normal(), random.normal()}, second = {random.normal(), 3 * random.normal()};
    together.append({first[0], first[1], second[0], second[1]}, {1, 1, 1, 1});
    apart.append(first, {1, 1});
    apart.lane(1).row(t).set_key(0, second);
  }
  const Leverage scorer{.sinks = 1, .recent = 2};
  const Vector both = together.scores(scorer), first = apart.scores(scorer, 0), second = apart.scores(scorer, 1);
  for (std::size_t t = 0; t < tokens; ++t) EXPECT_NEAR(both[t], first[t] + second[t], 1e-6) << t;
  EXPECT_GT(std::abs(first[5] - second[5]), 1e-3);
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

}  // namespace
}  // namespace pith::testing
