// SPDX-License-Identifier: MIT
// The choice of an instruction set; what the operations compute is tested per set, in kernels/.
#include "pith/tensor/ops.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pith/error.hpp"
#include "pith/tensor/tile.hpp"

namespace pith {
namespace {

TEST(Isa, TheBestIsInUseAndAnyCanBeForced) {
  const auto names = isas();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.back(), "scalar");
  EXPECT_EQ(isa(), names.front());
  for (const auto wanted : names) {
    use_isa(wanted);
    EXPECT_EQ(isa(), wanted);
    const float a[] = {1, 2, 3}, b[] = {4, 5, 6};
    EXPECT_EQ(ops::dot(a, b, 3), 32);
  }
  use_isa(names.front());
}

TEST(Isa, AnUnknownOneIsRefusedByName) {
  try {
    use_isa("mmx");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(error.what()).find("mmx"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("scalar"), std::string::npos);
  }
}

TEST(Ops, FormatsAreDispatched) {
  constexpr int n = 256;
  float values[n], back[n];
  for (int i = 0; i < n; ++i) values[i] = static_cast<float>(i % 32 - 16) / 8;
  for (const Format format : all_formats) {
    alignas(64) std::byte row[n * sizeof(float)];
    ops::encode(format, values, n, row);
    ops::decode(format, row, n, back);
    const std::size_t bits = 8 * row_bytes(format, n) / n;
    for (int k = 0; k < n; ++k) {
      EXPECT_NEAR(back[k], values[k], bits < 8 ? 0.27f : 0.01f) << name(format);
    }
  }
}

TEST(Ops, CacheFormatsAreDispatched) {
  constexpr int n = 256;
  float values[n], back[n];
  for (int i = 0; i < n; ++i) values[i] = static_cast<float>(i % 32 - 16) / 8;
  for (const KvFormat format : kv_formats) {
    EXPECT_EQ(kv_format_named(name(format)), format);
    alignas(64) std::byte row[n * sizeof(float)];
    ops::encode(storage(format), values, n, row);
    ops::decode(storage(format), row, n, back);
    float score = 0, self = 0, sums[n] = {};
    float query[n], key[n];
    std::copy_n(values, n, query);
    ops::prepare(format, query, 1, n, n);
    std::vector<std::byte> keys(tile_bytes(format, n)), rows(tile_bytes(format, n));
    store_row(format, Side::keys, values, n, keys.data(), 0);
    store_row(format, Side::values, values, n, rows.data(), 0);
    load_row(format, Side::keys, n, keys.data(), 0, key);
    for (int k = 0; k < n; ++k) self += values[k] * key[k];
    ops::dots(format, query, 1, n, keys.data(), 1, n, &score, 1);
    EXPECT_NEAR(score, self, 1e-4f * static_cast<float>(n));
    const float weight = 2;
    ops::accumulate(format, &weight, 1, 1, rows.data(), 1, n, sums, n);
    EXPECT_NEAR(sums[5], 2 * back[5], 1e-4f);
  }
}

}  // namespace
}  // namespace pith
