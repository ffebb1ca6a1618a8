// SPDX-License-Identifier: MIT
// A row can be held: what is written is read back as its format rounds it, its neighbours keep what they have, and all
// of it moves when it moves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "pith/cache/kv_cache.hpp"
#include "pith/error.hpp"
#include "support/random_model.hpp"

namespace pith {
namespace {

constexpr std::size_t head_dim = 32, heads = 2, gate_dim = 24;
constexpr Column liked{"liked"};  // a column of the caller's own

using Numbers = std::vector<float>;

/// All that a row holds, as it is read.
struct Content {
  Position born = 0, until = 0;
  bool pinned = false;
  std::vector<Numbers> keys, values;  // [head]
  Numbers gate_key, evidence;
  bool operator==(const Content&) const = default;
};

struct Case {
  KvFormat keys, values, gate_keys;
};

class Rows : public ::testing::TestWithParam<Case> {
 protected:
  KvLayouts layouts_{PageLayout({.keys = GetParam().keys,
                                 .values = GetParam().values,
                                 .heads = heads,
                                 .head_dim = head_dim,
                                 .gate_dim = gate_dim,
                                 .gate_keys = GetParam().gate_keys,
                                 .evidence = column::mass | liked})};
  PagePool pool_{0};
  Lane lane_{layouts_.kv, pool_, 0};
  testing::Random random_{3};

  Numbers some(std::size_t n) {
    Numbers numbers(n);
    for (float& number : numbers) number = random_.normal();
    return numbers;
  }

  static Numbers rounded(KvFormat format, Side side, const Numbers& numbers) {
    std::vector<std::byte> tile(tile_bytes(format, numbers.size()));
    Numbers back(numbers.size());
    store_row(format, side, numbers.data(), numbers.size(), tile.data(), 0);
    load_row(format, side, numbers.size(), tile.data(), 0, back.data());
    return back;
  }

  Content read(std::size_t i) const {
    const Row row = lane_.row(i);
    Content content{row.born(), row.until(), row.pinned(), {}, {}, Numbers(gate_dim), {}};
    for (std::size_t h = 0; h < heads; ++h) {
      row.key(h, content.keys.emplace_back(head_dim));
      row.value(h, content.values.emplace_back(head_dim));
    }
    row.gate_key(content.gate_key);
    for (const Column column : {column::mass, liked}) content.evidence.push_back(row.evidence(lane_.slot(column)));
    return content;
  }

  /// Writes a row anew; what should be read then.
  Content write(std::size_t i) {
    const Row row = lane_.row(i);
    Content content{row.born(), row.until(), row.pinned(), {}, {}, {}, some(2)};
    for (std::size_t h = 0; h < heads; ++h) {
      const Numbers key = some(head_dim), value = some(head_dim);
      row.set_key(h, key);
      row.set_value(h, value);
      content.keys.push_back(rounded(GetParam().keys, Side::keys, key));
      content.values.push_back(rounded(GetParam().values, Side::values, value));
    }
    const Numbers gate_key = some(gate_dim);
    row.set_gate_key(gate_key);
    content.gate_key = rounded(GetParam().gate_keys, Side::keys, gate_key);
    row.evidence(lane_.slot(column::mass)) = content.evidence[0];
    row.evidence(lane_.slot(liked)) = content.evidence[1];
    return content;
  }

  Content append(Position born) {
    const Row row = lane_.append(born, born % 3 == 0 ? never : born + 500);
    EXPECT_EQ(row.evidence(lane_.slot(column::mass)), 0);
    EXPECT_EQ(row.evidence(lane_.slot(liked)), 0);
    EXPECT_FALSE(row.pinned());
    return write(lane_.rows() - 1);
  }
};

TEST_P(Rows, AreReadAsTheyWereWrittenWhateverHappensToOthers) {
  std::vector<Content> expected;
  for (Position born = 0; born < 75; ++born) expected.push_back(append(born));
  for (int turn = 0; turn < 40; ++turn) {
    const auto i = static_cast<std::size_t>(random_.integer(0, 74));
    expected[i] = write(i);
  }
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(read(i), expected[i]) << "row " << i;
}

TEST_P(Rows, WrittenAsReadTheyStayTheSame) {
  for (Position born = 0; born < 20; ++born) append(born);
  for (std::size_t i = 0; i < 20; ++i) {
    const Content before = read(i);
    const Row row = lane_.row(i);
    for (std::size_t h = 0; h < heads; ++h) {
      row.set_key(h, before.keys[h]);
      row.set_value(h, before.values[h]);
    }
    row.set_gate_key(before.gate_key);
    const Content after = read(i);
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t d = 0; d < head_dim; ++d) {
        EXPECT_NEAR(after.keys[h][d], before.keys[h][d], 2e-3f * std::fabs(before.keys[h][d]) + 1e-6f);
        EXPECT_NEAR(after.values[h][d], before.values[h][d], 2e-3f * std::fabs(before.values[h][d]) + 1e-6f);
      }
    EXPECT_EQ(after.gate_key, before.gate_key);
  }
}

TEST_P(Rows, MoveWithAllThatBelongsToThem) {
  std::vector<Content> bag;
  Position born = 0;
  for (int turn = 0; turn < 600; ++turn) {
    const int what = random_.integer(0, 9);
    if (bag.empty() || what < 5) {
      bag.push_back(append(born++));
    } else {
      const auto i = static_cast<std::size_t>(random_.integer(0, static_cast<int>(bag.size()) - 1));
      if (what < 6) {
        lane_.pin(i, never);
        bag[i].pinned = true;
        bag[i].until = never;
      } else {
        lane_.erase(i);
        bag[i] = bag.back();
        bag.pop_back();
      }
    }
  }
  ASSERT_GT(bag.size(), 40u);
  Lane copy(layouts_.kv, pool_, 0);
  copy.copy_from(lane_);
  for (std::size_t i = 0; i < bag.size(); ++i) {
    ASSERT_EQ(read(i), bag[i]) << "row " << i;
    EXPECT_EQ(copy.row(i).pinned(), bag[i].pinned);
    EXPECT_EQ(copy.row(i).until(), bag[i].until);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Rows,
                         ::testing::Values(Case{KvFormat::f32, KvFormat::f32, KvFormat::f32},
                                           Case{KvFormat::f16, KvFormat::f16, KvFormat::f16},
                                           Case{KvFormat::bf16, KvFormat::bf16, KvFormat::f16},
                                           Case{KvFormat::q8_0, KvFormat::q8_0, KvFormat::f16},
                                           Case{KvFormat::q8_0, KvFormat::f16, KvFormat::f32},
                                           Case{KvFormat::q4_0, KvFormat::q4_0, KvFormat::f16},
                                           Case{KvFormat::q8_0, KvFormat::q4_0, KvFormat::f16},
                                           Case{KvFormat::q4_0, KvFormat::f32, KvFormat::f16}),
                         [](const auto& trial) {
                           return std::string(name(trial.param.keys)) + "_" + std::string(name(trial.param.values)) +
                                  "_" + std::string(name(trial.param.gate_keys));
                         });

TEST(SomeLanes, AreALayerOfTheirOwnThatKeepsTheirNumbers) {
  const KvLayouts layouts{PageLayout({.heads = 1, .head_dim = 4})};
  PagePool pool(0);
  KvCache cache(layouts, pool, 1, 5, 0, DropLog::Keep::history);
  for (Position born = 0; born < 10; ++born) cache.append(0, born, never);
  const KvLayer layer = cache.layer(0);
  const std::vector<std::size_t> chosen = {1, 3, 4}, fewer = {3};
  const KvLayer some = layer.only(chosen);
  ASSERT_EQ(some.lanes().size(), 3u);
  for (std::size_t l = 0; l < 3; ++l) {
    EXPECT_EQ(some.lanes().number(l), chosen[l]);
    EXPECT_EQ(&some.lanes()[l], &layer.lanes()[chosen[l]]);
  }
  some.evict(1, 6, 10);
  some.only(fewer).evict(0, 2, 10);
  for (const Lane& lane : some.lanes()) lane.close(0, 10);
  cache.sweep(0, 10);
  for (std::size_t l = 0; l < 5; ++l) {
    const bool listed = std::ranges::count(chosen, l) > 0;
    EXPECT_EQ(cache.lanes(0)[l].rows(), l == 3 ? 7u : listed ? 9u : 10u) << l;
    EXPECT_EQ(cache.log().until(0, l, 6) == 10, l == 3) << l;
    EXPECT_EQ(cache.log().until(0, l, 2) == 10, l == 3) << l;
    EXPECT_EQ(cache.log().until(0, l, 0) == 10, listed) << l;
  }
}

TEST(PinnedRows, AreNeitherClosedNorEvictedButForgotten) {
  const KvLayouts layouts{PageLayout({.heads = 1, .head_dim = 4})};
  PagePool pool(0);
  KvCache cache(layouts, pool, 2, 1, 0, DropLog::Keep::history);
  for (Position born = 0; born < 50; ++born)
    for (std::size_t layer = 0; layer < 2; ++layer) cache.append(layer, born, born + 60);
  const KvLayer layer = cache.layer(0);
  const Lane& lane = layer.lanes()[0];
  lane.close(7, 30);
  cache.keep(0, std::vector<Position>{7, 40}, 0);
  EXPECT_EQ(lane.until(7), never) << "a policy had closed it for later";

  lane.close(7, 45);
  lane.row(7).reopen(45);
  lane.page(1).set_until(8, 45);  // token 40
  EXPECT_EQ(lane.until(7), never);
  EXPECT_EQ(lane.until(40), never);
  EXPECT_FALSE(layer.evict(0, 40, 50));
  EXPECT_TRUE(layer.evict(0, 39, 50));
  EXPECT_EQ(lane.rows(), 49u);
  EXPECT_EQ(cache.log().until(0, 0, 39), 50);
  for (std::size_t row = lane.rows(); row-- > 0;) layer.evict(0, row, 50);
  ASSERT_EQ(lane.rows(), 2u);
  EXPECT_TRUE(lane.pinned(0) && lane.pinned(1));
  EXPECT_EQ(cache.rows(1), 50u) << "another layer";

  // The architecture's own window ends them all the same.
  cache.keep(1, std::vector<Position>{3, 20}, 60);
  cache.sweep(1, 70);
  EXPECT_EQ(cache.rows(1), 39u) << "3 is past the window, 20 is not";

  cache.forget(0, std::vector<Position>{7, 8}, 50);
  EXPECT_EQ(lane.rows(), 1u);
  EXPECT_EQ(lane.born(0), 40);
  EXPECT_EQ(cache.log().until(0, 0, 7), 50);
}

class GateLanes : public ::testing::Test {
 protected:
  KvLayouts layouts_{PageLayout({.heads = 1, .head_dim = 4}),
                     PageLayout({.heads = 0, .gate_dim = 8, .evidence = column::holders})};
  PagePool pool_{0};
};

// Of each token that some head still holds, the gate's key is there once, and of no other.
TEST_F(GateLanes, HoldATokenAsLongAsAnyHeadDoes) {
  constexpr std::size_t n_heads = 3;
  testing::Random random(5);
  KvCache cache(layouts_, pool_, 1, n_heads, 0, DropLog::Keep::counts);
  const KvLayer layer = cache.layer(0);
  ASSERT_TRUE(layer.gate_is_apart());
  for (Position now = 0; now < 400; ++now) {
    cache.append(0, now, random.integer(0, 1) == 0 ? never : now + random.integer(1, 90));
    layer.gate().row(layer.gate().rows() - 1).set_gate_key(Numbers(8, static_cast<float>(now)));
    for (std::size_t l = 0; l < n_heads; ++l) {
      const Lane& lane = layer.lanes()[l];
      const auto any = [&] { return static_cast<std::size_t>(random.integer(0, static_cast<int>(lane.rows()) - 1)); };
      if (lane.rows() > 40) layer.evict(l, any(), now);
      if (lane.rows() > 0) lane.close(any(), now + random.integer(1, 20));
    }
    cache.sweep(0, now + 1);

    std::vector<Position> held, keyed;
    for (const Lane& lane : layer.lanes())
      for (std::size_t row = 0; row < lane.rows(); ++row) held.push_back(lane.born(row));
    std::ranges::sort(held);
    held.erase(std::unique(held.begin(), held.end()), held.end());
    for (std::size_t row = 0; row < layer.gate().rows(); ++row) {
      keyed.push_back(layer.gate().born(row));
      Numbers key(8);
      layer.gate().row(row).gate_key(key);
      ASSERT_EQ(key, Numbers(8, static_cast<float>(keyed.back())));
      ASSERT_EQ(layer.gate_rows()[static_cast<std::size_t>(keyed.back())], row);
    }
    std::ranges::sort(keyed);
    ASSERT_EQ(keyed, held) << "at " << now;
  }
  std::vector<Position> all(400);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Position>(i);
  cache.forget(0, all, 400);
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST_F(GateLanes, AreCopiedAndCounted) {
  KvCache cache(layouts_, pool_, 2, 3, 0, DropLog::Keep::counts), copy(layouts_, pool_, 2, 3, 0, DropLog::Keep::counts);
  EXPECT_EQ(cache.bytes_for(33), 2 * 2 * (3 * layouts_.kv.bytes() + layouts_.gate->bytes()));
  for (Position born = 0; born < 33; ++born)
    for (const std::size_t layer : {0u, 1u}) cache.append(layer, born, never);
  EXPECT_EQ(cache.bytes(), cache.bytes_of(33));
  EXPECT_EQ(cache.bytes(), pool_.bytes_used());
  EXPECT_EQ(cache.bytes_for(31), 0u);
  copy.copy_from(cache);
  EXPECT_EQ(copy.bytes(), cache.bytes());
  for (std::size_t lane = 0; lane < 3; ++lane) copy.layer(1).evict(lane, 5, 33);
  copy.sweep(1, 33);
  EXPECT_EQ(copy.layer(1).gate().rows(), 32u);
  EXPECT_EQ(copy.layer(0).gate().rows(), 33u);
  EXPECT_EQ(cache.layer(1).gate().rows(), 33u);
}

TEST(PagePools, HoldPagesOfSeveralSizesUnderOneBudget) {
  PagePool pool(1000 * 64);
  std::byte* const small = pool.take(10 * 64);
  std::byte* const large = pool.take(700 * 64);
  EXPECT_EQ(pool.bytes_used(), 710 * 64u);
  EXPECT_EQ(pool.available(), 290 * 64u);
  EXPECT_THROW(pool.take(700 * 64), Error);
  EXPECT_EQ(pool.bytes_used(), 710 * 64u);
  pool.give(large, 700 * 64);
  EXPECT_EQ(pool.take(700 * 64), large) << "the page that is warm";
  pool.give(large, 700 * 64);
  pool.give(small, 10 * 64);
  EXPECT_EQ(pool.bytes_used(), 0u);
  EXPECT_EQ(pool.bytes_high_water(), 710 * 64u);
  EXPECT_EQ(pool.bytes_reserved(), 710 * 64u);
  EXPECT_EQ(pool.trim(), 710 * 64u);
  EXPECT_EQ(pool.bytes_reserved(), 0u);
}

TEST(ColumnSets, AreOrderedAndLookedUpByName) {
  const Columns both = column::window | column::mass;
  EXPECT_EQ(both, column::mass | column::window);
  EXPECT_EQ(both | column::mass, both);
  EXPECT_EQ(both.size(), 2u);
  EXPECT_TRUE(both.has(Column("mass")));
  EXPECT_FALSE(both.has(column::last));
  const PageLayout layout({.heads = 1, .head_dim = 4, .evidence = both});
  EXPECT_TRUE(layout.slot(column::window));
  EXPECT_FALSE(layout.slot(column::last));
  EXPECT_EQ(layout.bytes(), PageLayout({.heads = 1, .head_dim = 4}).bytes() + 2 * 128) << "nobody pays for others";
}

}  // namespace
}  // namespace pith
