// SPDX-License-Identifier: MIT
#include "pith/tensor/format.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pith {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

TEST(Format, NamesAndSizes) {
  for (int i = 0; i < format_count; ++i) {
    const auto format = static_cast<Format>(i);
    EXPECT_EQ(format_named(name(format)), format);
    EXPECT_EQ(visit(format, []<Block B>() { return BlockTraits<B>::format; }), format);
  }
  EXPECT_EQ(format_named("q9"), std::nullopt);
  EXPECT_EQ(row_bytes(Format::f32, 7), 28u);
  EXPECT_EQ(row_bytes(Format::bf16, 7), 14u);
  EXPECT_EQ(row_bytes(Format::q8_0, 64), 68u);
}

TEST(F16, EveryOneSurvivesTheWayThroughFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 half{static_cast<std::uint16_t>(bits)};
    const float value = to_float(half);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(to_float(to_f16(value))));
    } else {
      ASSERT_EQ(to_f16(value).bits, bits);
    }
  }
}

TEST(F16, RoundsToNearestEven) {
  static_assert(to_f16(1.0f).bits == 0x3c00);
  EXPECT_EQ(to_f16(65504).bits, 0x7bff);
  EXPECT_EQ(to_f16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520).bits, 0x7c00);
  EXPECT_EQ(to_f16(-infinity).bits, 0xfc00);
  EXPECT_EQ(to_f16(1 + 0x1p-11f).bits, 0x3c00);      // a tie, to even
  EXPECT_EQ(to_f16(1 + 3 * 0x1p-11f).bits, 0x3c02);  // a tie, to even
  EXPECT_EQ(to_f16(0x1p-24f).bits, 1);               // the smallest
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0);               // half of it, to even
  EXPECT_EQ(to_f16(0x1.8p-25f).bits, 1);
  EXPECT_EQ(to_f16(-0.0f).bits, 0x8000);
  EXPECT_TRUE(std::isnan(to_float(to_f16(nan))));
}

TEST(Bf16, RoundsToNearestEven) {
  static_assert(to_float(bf16{0x3f80}) == 1.0f);
  EXPECT_EQ(to_bf16(1 + 0x1p-8f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(1 + 3 * 0x1p-8f).bits, 0x3f82);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(to_bf16(-infinity).bits, 0xff80);
  EXPECT_TRUE(std::isnan(to_float(to_bf16(nan))));
}

TEST(Q8, ReachesTheLargestAndKeepsZeros) {
  float values[32] = {};
  values[3] = -2.54f;
  values[5] = 1.27f;
  q8_0 block;
  BlockTraits<q8_0>::encode(values, block);
  EXPECT_EQ(block.quants[3], -127);
  EXPECT_EQ(block.quants[0], 0);
  float back[32];
  BlockTraits<q8_0>::decode(block, back);
  EXPECT_NEAR(back[3], -2.54f, 0.002f);
  EXPECT_NEAR(back[5], 1.27f, 0.011f);
}

TEST(Q8, IsDefinedForEveryInput) {
  q8_0 block;
  float values[32] = {};
  for (const float extreme : {1e-42f, 1e-36f, 1e38f, infinity, nan}) {
    values[7] = extreme;
    BlockTraits<q8_0>::encode(values, block);
    for (const std::int8_t quant : block.quants) EXPECT_GE(quant, -127);
  }
  values[7] = infinity;
  BlockTraits<q8_0>::encode(values, block);
  EXPECT_EQ(to_float(block.scale), infinity);  // what overflows stays visible
}

}  // namespace
}  // namespace pith
