// SPDX-License-Identifier: MIT
#include "pith/tensor/matrix.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "pith/error.hpp"
#include "pith/tensor/ops.hpp"

namespace pith {
namespace {

Tensor<float> random_values(std::size_t rows, std::size_t cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  Tensor<float> values(rows, cols);
  for (std::size_t r = 0; r < rows; ++r)
    for (float& v : values[r]) v = normal(engine);
  return values;
}

Activations activations(const Tensor<float>& values) {
  Activations x;
  x.resize(values.rows(), values.cols());
  for (std::size_t t = 0; t < values.rows(); ++t) std::ranges::copy(values[t], x.values()[t].begin());
  x.changed();
  return x;
}

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(name(error.code())) + ": " + error.what();
  }
  return "no error";
}

class OfFormat : public testing::TestWithParam<Format> {};

/// A bound on the rounding of a number, relative to the largest of its row.
float step(Format format) {
  const std::size_t bits = row_bytes(format, 256) / 32;  // a number's, whole ones
  return bits == 2 ? 0.4f : bits == 3 ? 0.25f : bits == 4 ? 0.2f : bits == 5 ? 0.07f : bits == 6 ? 0.04f : 0.005f;
}

TEST_P(OfFormat, RowsAreWhatWasEncoded) {
  constexpr std::size_t cols = 512;
  const auto values = random_values(5, cols, 1);
  const Matrix matrix = Matrix::encode(GetParam(), values.view());
  EXPECT_EQ(matrix.bytes(), 5 * row_bytes(GetParam(), cols));
  std::vector<float> row(cols);
  for (std::size_t r = 0; r < 5; ++r) {
    matrix.row(r, row);
    float largest = 0;
    for (const float v : values[r]) largest = std::max(largest, std::fabs(v));
    for (std::size_t i = 0; i < cols; ++i) ASSERT_NEAR(row[i], values[r][i], step(GetParam()) * largest);
  }
}

TEST_P(OfFormat, MatmulIsTheSameByAnyThreadsAndAnyBatch) {
  const std::size_t rows = 1031, cols = 512, tokens = 9;
  const Matrix w = Matrix::encode(GetParam(), random_values(rows, cols, 2).view());
  const auto values = random_values(tokens, cols, 3);
  const auto bias = random_values(1, rows, 4);
  Activations x = activations(values);
  Tensor<float> one(tokens, rows), many(tokens, rows), single(1, rows);
  matmul(w, x, one.view(), Threads(1), bias[0]);
  x.changed();
  const Threads three(3);
  three.gather([&] { matmul(w, x, many.view(), three, bias[0]); });
  EXPECT_EQ(std::memcmp(one.data(), many.data(), tokens * rows * sizeof(float)), 0);

  std::vector<float> row(cols);
  for (std::size_t t = 0; t < tokens; ++t) {
    Activations alone = activations(random_values(1, cols, 99));
    std::ranges::copy(values[t], alone.values()[0].begin());
    alone.changed();
    matmul(w, alone, single.view(), Threads(2), bias[0]);
    ASSERT_EQ(std::memcmp(one[t].data(), single.data(), rows * sizeof(float)), 0) << t;
    for (std::size_t r = 0; r < rows; r += 100) {
      w.row(r, row);
      double sum = static_cast<double>(bias[0][r]), norm = 0;
      for (std::size_t i = 0; i < cols; ++i) {
        sum += static_cast<double>(row[i]) * static_cast<double>(values[t][i]);
        norm += std::fabs(static_cast<double>(row[i]) * static_cast<double>(values[t][i]));
      }
      ASSERT_NEAR(static_cast<double>(one[t][r]), sum, norm * (block_values(GetParam()) > 1 ? 4e-3 : 1e-6));
    }
  }
}

TEST_P(OfFormat, MatmulWritesIntoPartOfARow) {
  const Matrix w = Matrix::encode(GetParam(), random_values(8, 256, 5).view());
  Activations x = activations(random_values(3, 256, 6));
  Tensor<float> wide(3, 20), narrow(3, 8);
  matmul(w, x, wide.view().cols_from(4, 8), Threads(1));
  matmul(w, x, narrow.view(), Threads(1));
  for (std::size_t t = 0; t < 3; ++t)
    for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(wide[t][i], i >= 4 && i < 12 ? narrow[t][i - 4] : 0);
}

TEST_P(OfFormat, PartOfAMatrixSharesItsBytes) {
  Matrix part;
  std::vector<float> whole_row(256), part_row(256);
  {
    const Matrix matrix = Matrix::encode(GetParam(), random_values(10, 256, 7).view());
    matrix.row(6, whole_row);
    part = matrix.rows_from(4, 5);
    EXPECT_EQ(part.data(), matrix.data() + 4 * matrix.stride());
  }
  EXPECT_EQ(part.rows(), 5u);
  part.row(2, part_row);
  EXPECT_EQ(part_row, whole_row);
}

INSTANTIATE_TEST_SUITE_P(Matrix, OfFormat, testing::ValuesIn(all_formats),
                         [](const auto& format) { return std::string(name(format.param)); });

TEST(Matrix, RefusesBytesThatAreNotTheShape) {
  alignas(64) static const std::byte bytes[256] = {};
  const auto make = [](Format format, std::size_t rows, std::size_t cols, std::span<const std::byte> data) {
    return [=] { return Matrix(format, rows, cols, data, nullptr); };
  };
  EXPECT_EQ(message_of(make(Format::f32, 4, 16, bytes)), "no error");
  EXPECT_EQ(message_of(make(Format::f32, 4, 17, bytes)),
            "format: matrix f32 [4, 17]: expected 272 bytes, found 256 bytes");
  EXPECT_EQ(message_of(make(Format::q8_0, 1, 48, bytes)),
            "format: matrix q8_0 [1, 48]: expected columns in multiples of 32, found 48");
  EXPECT_EQ(message_of(make(Format::f16, std::size_t{1} << 62, 16, bytes)),
            "format: matrix f16 [4611686018427387904, 16]: expected a size that can be addressed, found 256 bytes");
  EXPECT_EQ(message_of(make(Format::f32, 1, std::size_t{1} << 63, {})),
            "format: matrix f32 [1, 9223372036854775808]: expected a size that can be addressed, found 0 bytes");
  EXPECT_EQ(message_of(make(Format::f32, 1, 4, std::span(bytes).subspan(2, 16))),
            "format: matrix f32 [1, 4]: expected data aligned to 4 bytes, found an address that is not");
}

TEST(Matrix, EmptyIsFalse) {
  EXPECT_FALSE(Matrix());
  EXPECT_TRUE(Matrix::encode(Format::f32, random_values(1, 1, 1).view()));
}

TEST(Activations, QuantisesOnceUntilChanged) {
  Activations x = activations(random_values(2, 64, 8));
  const Threads threads(1);
  const auto before = x.quantised(threads)[1][0];
  x.values()[1][0] = 1000;
  EXPECT_EQ(x.quantised(threads)[1][0].scale, before.scale);
  x.changed();
  EXPECT_NE(x.quantised(threads)[1][0].scale, before.scale);
  x.resize(1, 32);
  EXPECT_EQ(x.quantised(threads).rows, 1u);
}

}  // namespace
}  // namespace pith
