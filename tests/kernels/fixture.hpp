// SPDX-License-Identifier: MIT
// What the tests of kernels share: each runs once per table of this binary.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/table.hpp"

namespace pith::kernels {

using Bytes = std::vector<std::byte>;

class Random {
 public:
  std::vector<float> floats(std::size_t n, float deviation = 1) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(n);
    for (float& v : values) v = normal(engine_);
    return values;
  }
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine_); }
  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }

 private:
  std::mt19937_64 engine_{20240501};
};

inline const Table& plain() { return *tables().back(); }

extern const Table twin_table;  // the plain twin of the vocabulary, tests/support/twin_table.cpp

/// What kernels are tested in: the sets of instructions, and the twin.
inline std::vector<const Table*> all_tables() {
  std::vector<const Table*> all(tables().begin(), tables().end());
  all.push_back(&twin_table);
  return all;
}

inline void apply(const Table& table, Elementwise operation, std::vector<float>& x, const std::vector<float>& other,
                  float number) {
  table.elementwise[static_cast<std::size_t>(operation)](x.data(), other.data(), number, x.size());
}

/// Rows of numbers in a format, each `stride` bytes and perhaps more.
inline Bytes encoded(Format format, const std::vector<float>& values, std::size_t cols, std::size_t stride) {
  const std::size_t rows = cols == 0 ? 0 : values.size() / cols;
  Bytes bytes(rows * stride);
  for (std::size_t r = 0; r < rows; ++r)
    plain().formats[static_cast<std::size_t>(format)].encode(&values[r * cols], cols, &bytes[r * stride]);
  return bytes;
}

inline std::vector<double> decoded(Format format, const Bytes& bytes, std::size_t rows, std::size_t cols,
                                   std::size_t stride) {
  std::vector<double> values;
  std::vector<float> row(cols);
  for (std::size_t r = 0; r < rows; ++r) {
    plain().formats[static_cast<std::size_t>(format)].decode(bytes.data() + r * stride, cols, row.data());
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Rounding of a sum of n products: a few units in the last place of the sum of their magnitudes.
inline double bound(double magnitude, std::size_t n) {
  return magnitude * 6e-8 * (4 + std::sqrt(static_cast<double>(n))) + 1e-37;
}

inline constexpr Format float_formats[] = {Format::f32, Format::f16, Format::bf16};

/// Vectors as the weights of a format want them, and the numbers that they then are.
struct Vectors {
  Bytes bytes;
  std::size_t stride;
  std::vector<double> values;
};

inline Vectors vectors(Format weights, const std::vector<float>& values, std::size_t cols) {
  const std::size_t count = cols == 0 ? 0 : values.size() / cols;
  Vectors result{{}, cols * sizeof(float), {values.begin(), values.end()}};
  if (!wants_quantised(weights)) {
    result.bytes.resize(values.size() * sizeof(float));
    if (!values.empty()) std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
    return result;
  }
  result.stride = cols / 32 * sizeof(q8_activation);
  for (std::size_t t = 0; t < count; ++t) {
    std::vector<q8_activation> row(cols / 32);
    plain().quantise(&values[t * cols], cols, row.data());
    const auto* bytes = reinterpret_cast<const std::byte*>(row.data());
    result.bytes.insert(result.bytes.end(), bytes, bytes + result.stride);
    for (std::size_t i = 0; i < cols; ++i)
      result.values[t * cols + i] =
          static_cast<double>(row[i / 32].scale) * static_cast<double>(row[i / 32].quants[i % 32]);
  }
  return result;
}

class Kernels : public testing::TestWithParam<const Table*> {
 protected:
  void SetUp() override {
    if (!GetParam()->runs_here()) GTEST_SKIP() << "this machine does not have " << GetParam()->name;
  }
  static const Table& table() { return *GetParam(); }
  static const FormatKernels& kernels(Format format) { return table().formats[static_cast<std::size_t>(format)]; }

  /// Lengths around every vector width, in whole blocks.
  static std::vector<std::size_t> lengths(Format format) {
    const auto step = static_cast<std::size_t>(block_values(format));
    if (step > 32) return {0, step, 3 * step};
    if (step > 1) return {0, step, 2 * step, 3 * step, 7 * step, 18 * step};
    return {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 64, 65, 100, 127, 576};
  }

  Random random_;
};

inline std::string isa_name(const testing::TestParamInfo<const Table*>& isa) { return isa.param->name; }

}  // namespace pith::kernels
