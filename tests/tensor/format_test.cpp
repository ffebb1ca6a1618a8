// SPDX-License-Identifier: MIT
#include "pith/tensor/format.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pith {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// Text that holds the enumerator's name, as the compiler writes it.
template <Format format>
constexpr std::string_view enumerator() {
  return __PRETTY_FUNCTION__;
}

TEST(Format, TheListNamesEachAsItsTypeDoes) {
  const auto check = []<std::size_t i>() {
    constexpr auto format = static_cast<Format>(i);
    const auto text = enumerator<format>();
    const auto end = text.find_first_of(";]", text.rfind("Format::"));
    EXPECT_TRUE(text.substr(0, end).ends_with("Format::" + std::string(name(format)))) << text << " " << name(format);
  };
  [&]<std::size_t... i>(std::index_sequence<i...>) { (check.template operator()<i>(), ...); }
  (std::make_index_sequence<Formats::size>());
}

TEST(Format, NamesAndSizes) {
  for (const Format format : all_formats) {
    EXPECT_EQ(format_named(name(format)), format);
    EXPECT_EQ(visit(format, []<Block B>() { return format_of<B>; }), format);
  }
  EXPECT_EQ(format_named("q9"), std::nullopt);
  EXPECT_EQ(row_bytes(Format::f32, 7), 28u);
  EXPECT_EQ(row_bytes(Format::bf16, 7), 14u);
  EXPECT_EQ(row_bytes(Format::q8_0, 64), 68u);
  EXPECT_EQ(row_bytes(Format::q4_0, 64), 36u);
  EXPECT_EQ(row_bytes(Format::q4_k, 512), 288u);
  EXPECT_EQ(row_bytes(Format::q6_k, 512), 420u);
}

TEST(Format, FittingFallsBackAsLlamaCppDoes) {
  const std::pair<Format, Format> fallbacks[] = {{Format::q2_k, Format::q4_0}, {Format::q3_k, Format::q4_0},
                                                 {Format::q4_k, Format::q5_0}, {Format::q5_k, Format::q5_1},
                                                 {Format::q6_k, Format::q8_0}, {Format::iq4_xs, Format::iq4_nl},
                                                 {Format::q4_1, Format::q4_1}, {Format::mxfp4, Format::mxfp4}};
  for (const auto& [wanted, instead] : fallbacks) {
    EXPECT_EQ(fitting(wanted, 512), wanted);
    EXPECT_EQ(fitting(wanted, 576), instead);
    EXPECT_EQ(fitting(wanted, 80), Format::f16);
  }
  EXPECT_EQ(fitting(Format::f32, 7), Format::f32);
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

/// Relative root mean square error of encoding normally distributed numbers.
template <Block B>
double round_trip_error() {
  std::mt19937 engine(7);
  std::normal_distribution<float> normal(0, 0.02f);
  double error = 0, square = 0;
  float in[256], out[256];
  constexpr int values = BlockTraits<B>::values;
  for (int block = 0; block < 200; ++block) {
    for (float& v : in) v = normal(engine);
    for (int i = 0; i < 256; i += values) {
      B b;
      BlockTraits<B>::encode(in + i, b);
      BlockTraits<B>::decode(b, out + i);
    }
    for (int i = 0; i < 256; ++i) {
      const double v = static_cast<double>(in[i]), off = static_cast<double>(out[i]) - v;
      error += off * off;
      square += v * v;
    }
  }
  return std::sqrt(error / square);
}

TEST(Blocks, EncodeLosesNoMoreThanTheirBits) {
  EXPECT_LT(round_trip_error<q8_0>(), 0.006);
  EXPECT_LT(round_trip_error<q5_1>(), 0.040);
  EXPECT_LT(round_trip_error<q5_0>(), 0.045);
  EXPECT_LT(round_trip_error<q4_1>(), 0.083);
  EXPECT_LT(round_trip_error<q4_0>(), 0.090);
  EXPECT_LT(round_trip_error<q6_k>(), 0.018);
  EXPECT_LT(round_trip_error<q5_k>(), 0.036);
  EXPECT_LT(round_trip_error<q4_k>(), 0.073);
  EXPECT_LT(round_trip_error<q3_k>(), 0.150);
  EXPECT_LT(round_trip_error<q2_k>(), 0.300);
  EXPECT_LT(round_trip_error<iq4_nl>(), 0.078);
  EXPECT_LT(round_trip_error<iq4_xs>(), 0.078);
  EXPECT_LT(round_trip_error<mxfp4>(), 0.120);
}

TEST(Q4, FollowsTheSignedExtreme) {
  float in[32], back[32];
  for (int i = 0; i < 32; ++i) in[i] = static_cast<float>(i % 16 - 7) * 0.5f;  // -3.5 to 4
  q4_0 block;
  BlockTraits<q4_0>::encode(in, block);
  EXPECT_EQ(to_float(block.scale), -0.5f);
  EXPECT_EQ(block.nibbles[15], 0);
  EXPECT_EQ(block.nibbles[0], 0xff);
  BlockTraits<q4_0>::decode(block, back);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(back[i], in[i]) << i;
}

TEST(Q4K, DecodesWhatTheLayoutSays) {
  q4_k block{to_f16(0.5f), to_f16(0.25f), {}, {}};
  // Scales 1, 2, 3, 20, 33, 47, 62, 63 and minima 63, 50, 40, 31, 30, 17, 16, 1: of the last four the upper two bits
  // lie above those of the first four.
  const int scales[8] = {1, 2, 3, 20, 33, 47, 62, 63}, mins[8] = {63, 50, 40, 31, 30, 17, 16, 1};
  for (int p = 0; p < 4; ++p) {
    block.parts[p] = static_cast<std::uint8_t>(scales[p] | scales[p + 4] >> 4 << 6);
    block.parts[p + 4] = static_cast<std::uint8_t>(mins[p] | mins[p + 4] >> 4 << 6);
    block.parts[p + 8] = static_cast<std::uint8_t>((scales[p + 4] & 15) | (mins[p + 4] & 15) << 4);
  }
  for (int i = 0; i < 128; ++i) block.nibbles[i] = static_cast<std::uint8_t>(i * 37);
  float out[256];
  BlockTraits<q4_k>::decode(block, out);
  for (int i = 0; i < 256; ++i) {
    const std::uint8_t byte = block.nibbles[i / 64 * 32 + i % 32];
    const int nibble = i / 32 % 2 == 0 ? byte % 16 : byte / 16, part = i / 32;
    EXPECT_EQ(out[i], 0.5f * static_cast<float>(scales[part] * nibble) - 0.25f * static_cast<float>(mins[part])) << i;
    EXPECT_EQ(part_of(block.parts, part).scale, scales[part]);
    EXPECT_EQ(part_of(block.parts, part).min, mins[part]);
  }
}

TEST(Q6K, DecodesWhatTheLayoutSays) {
  q6_k block{};
  block.scale = to_f16(0.5f);
  for (int i = 0; i < 128; ++i) block.nibbles[i] = static_cast<std::uint8_t>(i * 37);
  for (int i = 0; i < 64; ++i) block.upper[i] = static_cast<std::uint8_t>(i * 91);
  for (int i = 0; i < 16; ++i) block.part_scales[i] = static_cast<std::int8_t>(i * 17 - 128);
  float out[256];
  BlockTraits<q6_k>::decode(block, out);
  // The four quarters of a half, one by one.
  for (int half = 0; half < 2; ++half)
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t a = block.nibbles[half * 64 + l], b = block.nibbles[half * 64 + 32 + l];
      const std::uint8_t upper = block.upper[half * 32 + l];
      const int quants[4] = {a % 16 + upper % 4 * 16, b % 16 + upper / 4 % 4 * 16, a / 16 + upper / 16 % 4 * 16,
                             b / 16 + upper / 64 * 16};
      for (int quarter = 0; quarter < 4; ++quarter) {
        const int i = half * 128 + quarter * 32 + l;
        EXPECT_EQ(out[i], 0.5f * static_cast<float>(block.part_scales[i / 16] * (quants[quarter] - 32))) << i;
      }
    }
}

/// The formats of more numbers than one in a block.
template <class... B>
auto only_blocks(TypeList<B...>) {
  return std::tuple_cat(std::conditional_t<(BlockTraits<B>::values > 1), std::tuple<B>, std::tuple<>>()...);
}
template <class... B>
testing::Types<B...> as_types(std::tuple<B...>);

/// How far a lone number may be off, relative to itself: of mxfp4 the largest gap is between 4 and 6.
template <Block B>
constexpr float lone_error = std::is_same_v<B, mxfp4> ? 0.2f : 0.01f;

template <Block B>
class Encoding : public testing::Test {};
using Blocks = decltype(as_types(only_blocks(Formats())));
TYPED_TEST_SUITE(Encoding, Blocks);

TYPED_TEST(Encoding, KeepsZerosAndLoneNumbers) {
  constexpr std::size_t values = BlockTraits<TypeParam>::values;
  float in[values] = {}, out[values];
  TypeParam block;
  BlockTraits<TypeParam>::encode(in, block);
  BlockTraits<TypeParam>::decode(block, out);
  for (const float v : out) EXPECT_EQ(v, 0.0f);
  for (const float lone : {1.0f, -1.0f, 1000.0f, -0.1f, 65504.0f}) {
    in[values - 3] = lone;
    BlockTraits<TypeParam>::encode(in, block);
    BlockTraits<TypeParam>::decode(block, out);
    for (std::size_t i = 0; i < values; ++i) {
      ASSERT_TRUE(std::isfinite(out[i]));
      EXPECT_NEAR(out[i], in[i], lone_error<TypeParam> * std::fabs(lone)) << i << " " << lone;
    }
  }
}

TYPED_TEST(Encoding, KeepsAConstant) {
  constexpr std::size_t values = BlockTraits<TypeParam>::values;
  float in[values], out[values];
  TypeParam block;
  for (const float constant : {0.75f, -0.75f}) {
    for (float& v : in) v = constant;
    BlockTraits<TypeParam>::encode(in, block);
    BlockTraits<TypeParam>::decode(block, out);
    for (const float v : out) EXPECT_NEAR(v, constant, 0.002f);
  }
}

TYPED_TEST(Encoding, IsDefinedForEveryInput) {
  constexpr std::size_t values = BlockTraits<TypeParam>::values;
  float in[values], out[values];
  TypeParam block;
  for (const float extreme : {0.0f, 1e-45f, 1e-42f, -1e-36f, 1e-9f, -1e38f, 3e38f, infinity, -infinity, nan}) {
    for (std::size_t i = 0; i < values; ++i) in[i] = i % 3 == 0 ? extreme : i % 3 == 1 ? -extreme : 0.5f;
    BlockTraits<TypeParam>::encode(in, block);
    BlockTraits<TypeParam>::decode(block, out);
    for (const float v : out) ASSERT_TRUE(std::isfinite(v) || !(std::fabs(extreme) < 1)) << extreme;
  }
}

}  // namespace
}  // namespace pith
