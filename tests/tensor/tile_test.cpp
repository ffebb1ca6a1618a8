// SPDX-License-Identifier: MIT
// Rows stored in a tile and copied between tiles are those that come out of it, in every format and in any order.
#include "pith/tensor/tile.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "pith/tensor/ops.hpp"

namespace pith {
namespace {

constexpr std::size_t dim = 96;
using Row = std::vector<float>;

class Tiles : public testing::TestWithParam<std::tuple<KvFormat, Side>> {
 protected:
  KvFormat format() const { return std::get<0>(GetParam()); }
  Side side() const { return std::get<1>(GetParam()); }

  std::vector<std::byte> empty() const { return std::vector<std::byte>(tile_bytes(format(), dim)); }

  Row random_row() {
    Row row(dim);
    for (float& number : row) number = normal_(engine_);
    return row;
  }

  bool spreads() const { return side() == Side::keys && spreads_keys(format()); }

  /// What the format makes of a row.
  Row rounded(Row row) const {
    if (spreads()) ops::hadamard(row.data(), dim);
    std::vector<std::byte> bytes(row_bytes(format(), dim));
    ops::encode(storage(format()), row.data(), dim, bytes.data());
    Row back(dim);
    ops::decode(storage(format()), bytes.data(), dim, back.data());
    if (spreads()) ops::hadamard(back.data(), dim);
    return back;
  }

  /// As attention reads it: keys by queries that ask for one number each, values by a weight of 1.
  Row row_of(const std::vector<std::byte>& tile, std::size_t row) const {
    Row numbers(dim);
    if (side() == Side::values) {
      float weights[tile_rows] = {};
      weights[row] = 1;
      ops::accumulate(format(), weights, 1, tile_rows, tile.data(), tile_rows, dim, numbers.data(), dim);
      return numbers;
    }
    Row queries(dim * dim), scores(dim * tile_rows);
    for (std::size_t i = 0; i < dim; ++i) queries[i * dim + i] = 1;
    ops::prepare(format(), queries.data(), dim, dim, dim);
    ops::dots(format(), queries.data(), dim, dim, tile.data(), tile_rows, dim, scores.data(), tile_rows);
    for (std::size_t i = 0; i < dim; ++i) numbers[i] = scores[i * tile_rows + row];
    return numbers;
  }

  /// Spread queries of one number each are many numbers, which attention in integers rounds.
  void expect_same(const Row& found, const Row& expected, std::size_t row) const {
    for (std::size_t i = 0; i < dim; ++i)
      if (spreads()) {
        EXPECT_NEAR(found[i], expected[i], 2e-4f) << "row " << row << ", number " << i;
      } else {
        EXPECT_FLOAT_EQ(found[i], expected[i]) << "row " << row << ", number " << i;
      }
  }

  std::mt19937 engine_{11};
  std::normal_distribution<float> normal_;
};

TEST_P(Tiles, RowsComeBackAsTheirFormatRoundsThem) {
  auto tile = empty();
  std::vector<Row> rows;
  for (std::size_t r = 0; r < tile_rows; ++r) {
    rows.push_back(random_row());
    store_row(format(), side(), rows[r].data(), dim, tile.data(), r);
  }
  rows[5] = random_row();
  store_row(format(), side(), rows[5].data(), dim, tile.data(), 5);
  for (std::size_t r = 0; r < tile_rows; ++r) expect_same(row_of(tile, r), rounded(rows[r]), r);
}

TEST_P(Tiles, CopiesAreTheSameBytesWhereverTheyLie) {
  auto from = empty(), to = empty();
  std::vector<Row> rows;
  for (std::size_t r = 0; r < tile_rows; ++r) {
    rows.push_back(random_row());
    store_row(format(), side(), rows[r].data(), dim, from.data(), r);
  }
  for (std::size_t r = 0; r < tile_rows; ++r)
    copy_row(format(), side(), dim, to.data(), r, from.data(), tile_rows - 1 - r);
  for (std::size_t r = 0; r < tile_rows; ++r) expect_same(row_of(to, r), rounded(rows[tile_rows - 1 - r]), r);
  copy_row(format(), side(), dim, to.data(), 0, to.data(), 9);  // within a tile, as erasing does
  expect_same(row_of(to, 0), rounded(rows[tile_rows - 1 - 9]), 0);
  expect_same(row_of(to, 1), rounded(rows[tile_rows - 2]), 1);
}

TEST_P(Tiles, RowsAreReadAndWrittenOneByOne) {
  auto tile = empty();
  std::vector<Row> rows;
  for (std::size_t r = 0; r < tile_rows; ++r) {
    rows.push_back(random_row());
    store_row(format(), side(), rows[r].data(), dim, tile.data(), r);
  }
  const auto before = tile;
  Row found(dim);
  for (std::size_t r = 0; r < tile_rows; ++r) {
    load_row(format(), side(), dim, tile.data(), r, found.data());
    EXPECT_EQ(found, rounded(rows[r])) << "row " << r;
  }
  rows[7] = random_row();
  store_row(format(), side(), rows[7].data(), dim, tile.data(), 7);
  EXPECT_NE(tile, before);
  for (std::size_t r = 0; r < tile_rows; ++r) {
    load_row(format(), side(), dim, tile.data(), r, found.data());
    EXPECT_EQ(found, rounded(rows[r])) << "row " << r << " beside a row that was written";
  }
}

TEST_P(Tiles, NumbersFitUpToWhereTheyWouldBeInfinite) {
  const float least = overflow(format());
  const auto is_infinite = [&](float number) {
    Row row(dim, 1.0f);
    row[40] = number;
    if (spreads()) ops::hadamard(row.data(), dim);  // of which this is to come
    const Row found = rounded(row);
    const bool infinite = std::ranges::any_of(found, [](float x) { return !std::isfinite(x); });
    EXPECT_EQ(fits(format(), side(), row.data(), dim), !infinite) << number;
    return infinite;
  };
  if (format() == KvFormat::f32) {
    EXPECT_FALSE(is_infinite(std::numeric_limits<float>::max()));
  } else {
    for (const float sign : {1.0f, -1.0f}) {
      EXPECT_TRUE(is_infinite(sign * (spreads() ? 1.001f * least : least)));
      EXPECT_TRUE(is_infinite(sign * std::numeric_limits<float>::max()));
      EXPECT_FALSE(is_infinite(sign * (spreads() ? 0.999f * least : std::nextafter(least, 0.0f))));
    }
  }
  // What is not finite to begin with is not the format's to answer for.
  Row row(dim, 1.0f);
  row[3] = std::numeric_limits<float>::infinity();
  row[50] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(fits(format(), side(), row.data(), dim));
}

// Why keys of four bits are spread: channels that are large in all keys leave nothing to their neighbours.
TEST(SpreadKeys, LoseLessWhereChannelsStandOut) {
  std::mt19937 engine(3);
  std::normal_distribution<float> normal;
  double spread = 0, plain = 0;
  for (int trial = 0; trial < 50; ++trial) {
    Row key(dim);
    for (float& number : key) number = normal(engine);
    key[5] += 40;
    key[70] -= 25;
    std::vector<std::byte> tile(tile_bytes(KvFormat::q4_0, dim));
    Row found(dim);
    for (const Side side : {Side::keys, Side::values}) {
      store_row(KvFormat::q4_0, side, key.data(), dim, tile.data(), 3);
      load_row(KvFormat::q4_0, side, dim, tile.data(), 3, found.data());
      for (std::size_t i = 0; i < dim; ++i)
        (side == Side::keys ? spread : plain) += std::pow(static_cast<double>(found[i] - key[i]), 2);
    }
  }
  EXPECT_LT(spread, 0.7 * plain);
}

TEST(SpreadKeys, GiveTheSameAttention) {
  // In f32, the softmax of a few queries over a tile of keys with and without it.
  std::mt19937 engine(4);
  std::normal_distribution<float> normal;
  for (const std::size_t n : {32u, 64u, 96u, 128u}) {
    constexpr std::size_t queries = 5;
    std::vector<float> q(queries * n), k(tile_rows * n), v(tile_rows * n);
    for (auto* numbers : {&q, &k, &v})
      for (float& number : *numbers) number = normal(engine) / 2;
    const auto attend = [&] {
      std::vector<float> scores(queries * tile_rows), out(queries * n), maximum(queries, -INFINITY), weight(queries),
          shrink(queries);
      const auto* keys = static_cast<const std::byte*>(static_cast<const void*>(k.data()));
      const auto* values = static_cast<const std::byte*>(static_cast<const void*>(v.data()));
      ops::dots(KvFormat::f32, q.data(), queries, n, keys, tile_rows, n, scores.data(), tile_rows);
      ops::absorb_rows(scores.data(), tile_rows, queries, maximum.data(), weight.data(), shrink.data());
      ops::accumulate(KvFormat::f32, scores.data(), queries, tile_rows, values, tile_rows, n, out.data(), n);
      for (std::size_t i = 0; i < out.size(); ++i) out[i] /= weight[i / n];
      return out;
    };
    const auto before = attend();
    for (std::size_t i = 0; i < queries; ++i) ops::hadamard(&q[i * n], n);
    for (std::size_t j = 0; j < tile_rows; ++j) ops::hadamard(&k[j * n], n);
    const auto after = attend();
    for (std::size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(after[i], before[i], 1e-5f) << n;
  }
}

TEST(KvPairs, AreSpelledAsTheyAreRead) {
  for (const KvFormat keys : kv_formats)
    for (const KvFormat values : kv_formats) {
      const KvPair pair{keys, values};
      EXPECT_EQ(kv_pair_named(name(pair)), pair) << name(pair);
      EXPECT_EQ(kv_pair_named("v=" + std::string(name(values)) + ",k=" + std::string(name(keys))), pair);
      EXPECT_EQ(name(pair) == name(keys), keys == values);
    }
  EXPECT_EQ(name(KvPair(KvFormat::q8_0, KvFormat::q4_0)), "k=q8_0,v=q4_0");
  for (const char* wrong : {"", "q4_k", "k=q8_0", "k=q8_0,", "k=q8_0,v=", "k=q8_0,k=f16", "k=q8_0,v=q4_k", "q8_0,f16",
                            "k=q8_0,v=f16,v=f16", "K=q8_0,V=f16"})
    EXPECT_FALSE(kv_pair_named(wrong)) << wrong;
}

INSTANTIATE_TEST_SUITE_P(Formats, Tiles,
                         testing::Combine(testing::ValuesIn(kv_formats), testing::Values(Side::keys, Side::values)),
                         [](const auto& trial) {
                           return std::string(name(std::get<0>(trial.param))) +
                                  (std::get<1>(trial.param) == Side::keys ? "_keys" : "_values");
                         });

}  // namespace
}  // namespace pith
