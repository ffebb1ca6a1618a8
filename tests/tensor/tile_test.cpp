// SPDX-License-Identifier: MIT
// Rows stored in a tile and copied between tiles are those that come out of it, in every format and in any order.
#include "pith/tensor/tile.hpp"

#include <gtest/gtest.h>

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

  /// What the format makes of a row.
  Row rounded(const Row& row) const {
    std::vector<std::byte> bytes(row_bytes(format(), dim));
    ops::encode(storage(format()), row.data(), dim, bytes.data());
    Row back(dim);
    ops::decode(storage(format()), bytes.data(), dim, back.data());
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

  static void expect_same(const Row& found, const Row& expected, std::size_t row) {
    for (std::size_t i = 0; i < dim; ++i) EXPECT_FLOAT_EQ(found[i], expected[i]) << "row " << row << ", number " << i;
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
    EXPECT_EQ(fits(format(), row.data(), dim), !std::isinf(rounded(row)[40])) << number;
    return std::isinf(rounded(row)[40]);
  };
  if (format() == KvFormat::f32) {
    EXPECT_FALSE(is_infinite(std::numeric_limits<float>::max()));
  } else {
    for (const float sign : {1.0f, -1.0f}) {
      EXPECT_TRUE(is_infinite(sign * least));
      EXPECT_TRUE(is_infinite(sign * std::numeric_limits<float>::max()));
      EXPECT_FALSE(is_infinite(sign * std::nextafter(least, 0.0f)));
    }
  }
  // What is not finite to begin with is not the format's to answer for.
  Row row(dim, 1.0f);
  row[3] = std::numeric_limits<float>::infinity();
  row[50] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(fits(format(), row.data(), dim));
}

INSTANTIATE_TEST_SUITE_P(Formats, Tiles,
                         testing::Combine(testing::ValuesIn(kv_formats), testing::Values(Side::keys, Side::values)),
                         [](const auto& trial) {
                           return std::string(name(std::get<0>(trial.param))) +
                                  (std::get<1>(trial.param) == Side::keys ? "_keys" : "_values");
                         });

}  // namespace
}  // namespace pith
