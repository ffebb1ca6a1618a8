// SPDX-License-Identifier: MIT
// Many queries at once: products of matrices and turns of the online softmax.
#include "kernels/fixture.hpp"

namespace pith::kernel {
namespace {

class AttentionKernels : public Kernels {};

TEST_P(AttentionKernels, AddProductAddsAProductOfMatrices) {
  for (int trial = 0; trial < 200; ++trial) {
    const std::size_t rows = random_.below(50), depth = random_.below(70), cols = random_.below(70);
    const bool across = random_.below(2) == 0;  // a lies transposed
    const std::size_t a_row = across ? 1 : depth + random_.below(3), a_col = across ? rows + random_.below(3) : 1;
    const std::size_t b_stride = cols + random_.below(3), c_stride = cols + random_.below(3);
    const auto a = random_.floats((rows + 3) * (depth + 3)), b = random_.floats((depth + 1) * b_stride + 1);
    const auto start = random_.floats((rows + 1) * c_stride + 1);
    auto c = start;
    table().add_product(a.data(), a_row, a_col, b.data(), b_stride, rows, depth, cols, c.data(), c_stride);
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t j = 0; j < cols; ++j) {
        double sum = static_cast<double>(start[i * c_stride + j]), magnitude = std::fabs(sum);
        for (std::size_t k = 0; k < depth; ++k) {
          const double product = static_cast<double>(a[i * a_row + k * a_col]) * b[k * b_stride + j];
          sum += product;
          magnitude += std::fabs(product);
        }
        ASSERT_NEAR(c[i * c_stride + j], sum, bound(magnitude, depth)) << rows << " x " << depth << " x " << cols;
      }
      for (std::size_t j = cols; j < c_stride; ++j) ASSERT_EQ(c[i * c_stride + j], start[i * c_stride + j]);
    }
    for (std::size_t i = rows * c_stride; i < c.size(); ++i) ASSERT_EQ(c[i], start[i]);
  }
}

TEST_P(AttentionKernels, AbsorbIsATurnOfASoftmax) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (int trial = 0; trial < 200; ++trial) {
    const std::size_t rows = random_.below(40), queries = random_.below(50), stride = queries + random_.below(4);
    auto scores = random_.floats(rows * stride + 1, trial % 5 == 0 ? 60.0f : 2.0f);
    for (std::size_t q = 0; q < queries; ++q)
      for (std::size_t j = 0; j < rows; ++j)
        if (random_.below(4) == 0 || q % 7 == 3) scores[j * stride + q] = -infinity;
    auto maximum = random_.floats(queries), weight = random_.floats(queries);
    for (std::size_t q = 0; q < queries; ++q) {
      weight[q] = std::fabs(weight[q]) + 1;
      if (q % 3 == 0) maximum[q] = -infinity, weight[q] = 0;  // nothing seen yet
    }
    const auto given = scores, before = maximum, sum = weight;
    std::vector<float> shrink(queries, -7);
    table().absorb(scores.data(), stride, rows, queries, maximum.data(), weight.data(), shrink.data());

    for (std::size_t q = 0; q < queries; ++q) {
      float largest = before[q];
      for (std::size_t j = 0; j < rows; ++j) largest = std::max(largest, given[j * stride + q]);
      ASSERT_EQ(maximum[q], largest);
      const bool nothing = largest == -infinity;
      const double factor = nothing ? 0 : std::exp(static_cast<double>(before[q] - largest));
      double expected = sum[q] * factor;
      ASSERT_NEAR(shrink[q], factor, 1e-6 * factor + 1e-30);
      for (std::size_t j = 0; j < rows; ++j) {
        const double e = nothing ? 0 : std::exp(static_cast<double>(given[j * stride + q] - largest));
        ASSERT_NEAR(scores[j * stride + q], e, 1e-6 * e + 1e-30);
        expected += e;
      }
      ASSERT_NEAR(weight[q], expected, 4e-6 * expected);
    }
    for (std::size_t j = 0; j < rows; ++j)
      for (std::size_t q = queries; q < stride; ++q) ASSERT_EQ(scores[j * stride + q], given[j * stride + q]);
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, AttentionKernels, testing::ValuesIn(tables().begin(), tables().end()), isa_name);

}  // namespace
}  // namespace pith::kernel
