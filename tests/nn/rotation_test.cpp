// SPDX-License-Identifier: MIT
// What policies know of a rotary position embedding undoes what the layer's own table does.
#include "pith/prune/rotation.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "pith/nn/rope.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr std::size_t head_dim = 8, heads = 3;
constexpr Position positions = 40;

struct Case {
  RopeConfig config;
  RopePairs pairs;

  RopeTable table() const {
    std::vector<Position> all(positions);
    std::iota(all.begin(), all.end(), 0);
    RopeTable made;
    made.fill(config, head_dim, all, positions);
    return made;
  }
  prune::Rotation rotation(const RopeTable& of) const {
    return {of.frequencies(), config.magnitude, pairs == RopePairs::adjacent};
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const RopePairs pairs : {RopePairs::halves, RopePairs::adjacent})
    for (const int dim : {0, 4}) {
      all.push_back({{.theta = 100, .dim = dim}, pairs});
      all.push_back(
          {{.theta = 100, .divisors = std::vector<float>(dim > 0 ? 2 : 4, 3.0f), .dim = dim, .magnitude = 1.3f},
           pairs});
      // Of a context that is longer than the original one.
      all.push_back({{.theta = 100,
                      .dim = dim,
                      .long_divisors = std::vector<float>(dim > 0 ? 2 : 4, 7.0f),
                      .original_context = 16},
                     pairs});
    }
  return all;
}

std::vector<float> normal(Random& random, std::size_t n) {
  std::vector<float> x(n);
  for (float& number : x) number = random.normal();
  return x;
}

TEST(RotationTest, UndoesWhatTheTableTurns) {
  Random random(1);
  for (const Case& one : cases()) {
    const RopeTable table = one.table();
    for (const Position p : {0, 1, 17, 39}) {
      const auto x = normal(random, heads * head_dim);
      std::vector<float> turned = x;
      table.rotate(one.pairs, static_cast<std::size_t>(p), turned);
      EXPECT_EQ(turned == x, p == 0 && one.config.magnitude == 1);
      one.rotation(table).undo(p, head_dim, turned);
      for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(turned[i], x[i], 1e-5);
    }
  }
  std::vector<float> still = {1, 2, 3};
  prune::Rotation{}.undo(7, 3, still);
  EXPECT_EQ(still, (std::vector<float>{1, 2, 3})) << "where nothing turns";
}

TEST(RotationTest, IsAveragedOverPositions) {
  Random random(2);
  constexpr Position begin = 11, end = 37;
  for (const Case& one : cases()) {
    const RopeTable table = one.table();
    const auto key = normal(random, head_dim), query = normal(random, head_dim);
    double expected = 0;
    for (Position p = begin; p < end; ++p) {
      std::vector<float> turned = query;
      table.rotate(one.pairs, static_cast<std::size_t>(p), turned);
      for (std::size_t i = 0; i < head_dim; ++i) expected += static_cast<double>(key[i] * turned[i]) / (end - begin);
    }
    std::vector<float> turns, back = key;
    one.rotation(table).mean(begin, end, turns);
    one.rotation(table).transposed(turns, back);
    EXPECT_NEAR(std::inner_product(back.begin(), back.end(), query.begin(), 0.0), expected, 1e-5);
  }
}

}  // namespace
}  // namespace pith::testing
