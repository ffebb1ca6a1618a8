// SPDX-License-Identifier: MIT
// Blocks mean what the Python package gguf says, bit for bit, and lose no more than llama.cpp's: gguf_blocks.txt, which
// gguf_blocks.py writes.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "pith/tensor/format.hpp"
#include "pith/tensor/ops.hpp"

namespace pith {
namespace {

constexpr std::size_t blocks = 16, blocks_of_error = 256;

std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::vector<std::byte> any_bytes(std::uint64_t seed, std::size_t count) {
  constexpr std::array<std::uint8_t, 5> extremes = {0x00, 0xff, 0x80, 0x7f, 0x01};
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto random = static_cast<std::uint8_t>(splitmix64(seed, i / 8) >> (8 * (i % 8)));
    bytes[i] = static_cast<std::byte>(seed % 2 == 0 ? random : extremes[random % 5]);
  }
  return bytes;
}

std::vector<float> numbers(std::uint64_t seed, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    int sum = 0;
    for (int k = 0; k < 4; ++k) sum += static_cast<std::int16_t>(splitmix64(seed, i) >> (16 * k));
    values[i] = std::ldexp(static_cast<float>(sum), -20);
  }
  return values;
}

std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
  }
  return ~crc;
}

std::vector<std::byte> encoded(Format format, const std::vector<float>& values) {
  std::vector<std::byte> bytes(row_bytes(format, values.size()));
  ops::encode(format, values.data(), values.size(), bytes.data());
  return bytes;
}

std::vector<float> decoded(Format format, const std::vector<std::byte>& bytes) {
  std::vector<float> values(bytes.size() / block_bytes(format) * static_cast<std::size_t>(block_values(format)));
  ops::decode(format, bytes.data(), values.size(), values.data());
  return values;
}

double error_of(Format format, std::uint64_t seed) {
  const auto values = numbers(seed, blocks_of_error * static_cast<std::size_t>(block_values(format)));
  const auto back = decoded(format, encoded(format, values));
  double error = 0, square = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = static_cast<double>(values[i]), off = static_cast<double>(back[i]) - value;
    error += off * off;
    square += value * value;
  }
  return std::sqrt(error / square);
}

TEST(GgufBlocks, AreWhatTheFileSays) {
  std::ifstream file(std::filesystem::path(PITH_SOURCE_DIR) / "tests/tensor/gguf_blocks.txt");
  std::map<std::string, std::map<Format, int>> lines;
  std::string what, name, expected;
  for (std::uint64_t seed = 0; file >> what >> name >> seed >> expected;) {
    SCOPED_TRACE(what + " " + name + " " + std::to_string(seed));
    const auto format = format_named(name);
    ASSERT_TRUE(format);
    ++lines[what][*format];
    if (what == "decode") {
      auto values = decoded(*format, any_bytes(seed, blocks * block_bytes(*format)));
      for (float& value : values)
        if (std::isnan(value)) value = std::bit_cast<float>(0x7fc00000u);
      EXPECT_EQ(std::to_string(crc32(std::as_bytes(std::span(values)))), expected);
    } else if (what == "encode") {
      const auto values = numbers(seed, blocks * static_cast<std::size_t>(block_values(*format)));
      EXPECT_EQ(std::to_string(crc32(encoded(*format, values))), expected);
    } else {
      ASSERT_EQ(what, "error");
      const double error = error_of(*format, seed), bound = std::stod(expected);
      EXPECT_LE(error, bound * (1 + 1e-6));
      EXPECT_GT(error, bound / 2);
    }
  }
  for (const Format format : all_formats) {
    if (block_values(format) == 1) continue;
    EXPECT_EQ(lines["decode"][format], 10) << pith::name(format);
    EXPECT_EQ(lines["error"][format], 1) << pith::name(format);
  }
  EXPECT_EQ(lines["encode"].size(), 4u);
}

}  // namespace
}  // namespace pith
