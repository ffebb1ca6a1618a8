// SPDX-License-Identifier: MIT
// What becomes of rows that may not stay: the numbers of the papers.
#include <gtest/gtest.h>

#include <cstddef>

#include "pith/prune/evict.hpp"
#include "support/layer.hpp"

namespace pith::testing {
namespace {

using namespace prune;

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

}  // namespace
}  // namespace pith::testing
