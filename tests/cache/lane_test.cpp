// SPDX-License-Identifier: MIT
// A lane's pages know when the first of their rows closes, whatever happens to the rows.
#include "pith/cache/lane.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "pith/cache/kv_cache.hpp"
#include "support/random_model.hpp"

namespace pith {
namespace {

constexpr std::size_t capacity = PageLayout::capacity;

class Lanes : public ::testing::Test {
 protected:
  KvLayouts layouts_{PageLayout({.heads = 1, .head_dim = 4})};
  const PageLayout& layout_ = layouts_.kv;
  PagePool pool_{0};
  testing::Random random_{7};

  std::size_t any_row(const Lane& lane) {
    return static_cast<std::size_t>(random_.integer(0, static_cast<int>(lane.rows()) - 1));
  }
};

TEST_F(Lanes, NoRowClosesBeforeItsPageSaysSo) {
  Lane lane(layout_, pool_, 0);
  Position born = 0;
  for (int turn = 0; turn < 5000; ++turn) {
    const int what = random_.integer(0, 9);
    if (lane.rows() == 0 || what < 4) {
      lane.append(born, random_.integer(0, 3) == 0 ? born + random_.integer(1, 400) : never);
      ++born;
    } else if (what < 7) {
      lane.close(any_row(lane), born + random_.integer(0, 300));
    } else if (what < 8) {
      lane.row(any_row(lane)).reopen(never);
    } else {
      lane.erase(any_row(lane));
    }
    for (std::size_t p = 0; p < lane.pages(); ++p)
      for (const Position until : lane.page(p).until()) ASSERT_LE(lane.earliest_until(p), until) << "turn " << turn;
  }
}

TEST_F(Lanes, ALookAtThePageFindsItExactly) {
  Lane lane(layout_, pool_, 0);
  for (Position born = 0; born < static_cast<Position>(2 * capacity); ++born) lane.append(born, never);
  lane.close(3, 50);
  lane.close(5, 70);
  lane.row(3).reopen(never);
  EXPECT_EQ(lane.earliest_until(0), 50);
  lane.find_earliest_until(0);
  EXPECT_EQ(lane.earliest_until(0), 70);
  EXPECT_EQ(lane.earliest_until(1), never);
}

TEST_F(Lanes, ASweepErasesWhatIsClosedAndNothingElse) {
  KvCache cache(layouts_, pool_, 1, 1, 0, DropLog::Keep::counts);
  const KvLayer layer = cache.layer(0);
  const Lane& lane = layer.lanes()[0];
  std::multiset<Position> open;  // ends of the rows that should be there
  for (Position now = 0; now < 3000; ++now) {
    const Position until = random_.integer(0, 2) == 0 ? never : now + random_.integer(1, 500);
    cache.append(0, now, until);
    open.insert(until);
    cache.sweep(0, now);
    open.erase(open.begin(), open.upper_bound(now));
    std::multiset<Position> found;
    for (std::size_t row = 0; row < lane.rows(); ++row) found.insert(lane.until(row));
    ASSERT_EQ(found, open) << "at " << now;
  }
}

}  // namespace
}  // namespace pith
