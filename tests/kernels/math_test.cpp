// SPDX-License-Identifier: MIT
// Elementwise kernels and norms against their formulas in double precision.
#include <bit>

#include "kernels/fixture.hpp"

namespace pith::kernels {
namespace {

class Math : public Kernels {};

TEST_P(Math, DotAddScaleMax) {
  for (const std::size_t n : lengths(Format::f32)) {
    const auto a = random_.floats(n), b = random_.floats(n);
    double sum = 0, magnitude = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double product = static_cast<double>(a[i]) * static_cast<double>(b[i]);
      sum += product;
      magnitude += std::fabs(product);
    }
    EXPECT_NEAR(table().dot(a.data(), b.data(), n), sum, bound(magnitude, n)) << n;

    auto y = a, expected = a;
    apply(table(), Elementwise::add, y, b, 0);
    apply(plain(), Elementwise::add, expected, b, 0);
    EXPECT_TRUE(same_bits(y, expected)) << n;
    apply(table(), Elementwise::scale, y, {}, 0.37f);
    apply(plain(), Elementwise::scale, expected, {}, 0.37f);
    EXPECT_TRUE(same_bits(y, expected)) << n;
    EXPECT_EQ(table().max(a.data(), n), plain().max(a.data(), n)) << n;
  }
  EXPECT_EQ(table().max(nullptr, 0), -std::numeric_limits<float>::infinity());
}

TEST_P(Math, HadamardIsItsMatrixAndItsOwnInverse) {
  for (const std::size_t n : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 80u, 96u, 128u, 160u, 192u, 224u, 256u}) {
    const auto x = random_.floats(n);
    auto spread = x;
    spread.push_back(7);
    table().hadamard(spread.data(), n);
    EXPECT_EQ(spread.back(), 7) << n;
    double norm = 0, spread_norm = 0;
    for (std::size_t begin = 0; begin < n;) {
      const std::size_t size = std::bit_floor(n - begin);
      for (std::size_t i = 0; i < size; ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < size; ++j)
          sum += (std::popcount(i & j) % 2 == 0 ? 1 : -1) * static_cast<double>(x[begin + j]);
        ASSERT_NEAR(spread[begin + i], sum / std::sqrt(static_cast<double>(size)), 2e-6) << n << ", " << begin + i;
        norm += static_cast<double>(x[begin + i]) * x[begin + i];
        spread_norm += static_cast<double>(spread[begin + i]) * spread[begin + i];
      }
      begin += size;
    }
    EXPECT_NEAR(spread_norm, norm, 1e-5 * norm) << n;
    auto same = x;
    plain().hadamard(same.data(), n);
    same.push_back(7);
    EXPECT_TRUE(same_bits(spread, same)) << n << ": every set of instructions adds in the same order";
    table().hadamard(spread.data(), n);
    for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(spread[i], x[i], 2e-6) << n;
  }
  table().hadamard(nullptr, 0);
}

TEST_P(Math, NormsAreTheirFormulas) {
  for (const std::size_t n : lengths(Format::f32)) {
    if (n == 0) continue;
    auto x = random_.floats(n);
    for (float& v : x) v = v * 3 + 2;
    const auto weight = random_.floats(n), bias = random_.floats(n);
    const auto count = static_cast<double>(n);
    double mean = 0, square = 0, variance = 0;
    const std::vector<double> exact(x.begin(), x.end());
    for (const double v : exact) mean += v / count, square += v * v / count;
    for (const double v : exact) variance += (v - mean) * (v - mean) / count;
    std::vector<float> rms(n), layer(n), in_place = x;
    table().rms_norm(x.data(), weight.data(), 1e-5f, n, rms.data());
    table().layer_norm(x.data(), weight.data(), bias.data(), 1e-5f, n, layer.data());
    for (std::size_t i = 0; i < n; ++i) {
      const auto w = static_cast<double>(weight[i]), b = static_cast<double>(bias[i]);
      const double by_rms = exact[i] / std::sqrt(square + 1e-5) * w;
      const double by_layer = (exact[i] - mean) / std::sqrt(variance + 1e-5) * w + b;
      ASSERT_NEAR(rms[i], by_rms, 1e-6 * std::fabs(by_rms)) << n;
      // One number has no variance: its rounding is what is left, and is magnified.
      ASSERT_NEAR(layer[i], by_layer, (n == 1 ? 1e-3 : 3e-6) * (1 + std::fabs(by_layer))) << n;
    }
    table().rms_norm(in_place.data(), weight.data(), 1e-5f, n, in_place.data());
    ASSERT_TRUE(same_bits(in_place, rms)) << "in place, n " << n;
  }
}

/// What ops.hpp says of an operation, in double precision.
double exactly(Elementwise operation, double x, double other, double number) {
  switch (operation) {
    case Elementwise::add:
      return x + other;
    case Elementwise::scale:
      return x * number;
    case Elementwise::silu:
      return x / (1 + std::exp(-x));
    case Elementwise::silu_multiply:
      return exactly(Elementwise::silu, x, 0, 0) * other;
    case Elementwise::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case Elementwise::gelu:
      return 0.5 * x * (1 + std::erf(x * 0.70710678118654752));
    case Elementwise::gelu_tanh_multiply:
      return exactly(Elementwise::gelu_tanh, x, 0, 0) * other;
    case Elementwise::gelu_multiply:
      return exactly(Elementwise::gelu, x, 0, 0) * other;
    case Elementwise::soft_cap:
      return number * std::tanh(x / number);
    case Elementwise::count:
      break;
  }
  ADD_FAILURE() << "an operation without a formula";
  return 0;
}

TEST_P(Math, ElementwiseOperationsAreTheirFormulasAndTheirPlainTwins) {
  const float number = 3;
  for (std::size_t i = 0; i < elementwise_count; ++i)
    for (const std::size_t n : lengths(Format::f32))
      for (const float deviation : {1e-3f, 4.0f, 100.0f}) {
        const auto operation = static_cast<Elementwise>(i);
        const auto x = random_.floats(n, deviation), other = random_.floats(n);
        auto y = x, twin = x;
        apply(table(), operation, y, other, number);
        apply(plain(), operation, twin, other, number);
        for (std::size_t k = 0; k < n; ++k) {
          const auto v = static_cast<double>(x[k]), w = static_cast<double>(other[k]);
          const double tolerance = 5e-7 * (std::fabs(v) + std::fabs(w)) * (1 + std::fabs(w)) + 1e-12;
          ASSERT_NEAR(y[k], exactly(operation, v, w, 3), tolerance) << "operation " << i << " of " << v << ", " << w;
          ASSERT_NEAR(y[k], twin[k], tolerance) << "operation " << i << " of " << v << ", " << w;
        }
      }
}

TEST_P(Math, ElementwiseOperationsStayWithinTheirLength) {
  for (std::size_t i = 0; i < elementwise_count; ++i)
    for (std::size_t n = 0; n < 40; ++n) {
      std::vector<float> x = random_.floats(64);
      const std::vector<float> before = x, other = random_.floats(n);
      table().elementwise[i](x.data(), other.data(), 3, n);
      for (std::size_t k = n; k < x.size(); ++k) ASSERT_EQ(x[k], before[k]) << "operation " << i << ", n " << n;
    }
}

TEST_P(Math, ActivationsOfWhatIsFarFromZero) {
  const std::vector<float> far = {-1e30f, -1000, -200, 200, 1000, 1e10f};
  const std::vector<float> ones(far.size(), 1);
  for (const auto operation : {Elementwise::silu, Elementwise::silu_multiply, Elementwise::gelu_tanh, Elementwise::gelu,
                               Elementwise::gelu_tanh_multiply, Elementwise::gelu_multiply}) {
    auto y = far;
    apply(table(), operation, y, ones, 0);
    for (std::size_t i = 0; i < far.size(); ++i) EXPECT_EQ(y[i], far[i] > 0 ? far[i] : 0);
  }
}

TEST_P(Math, SoftCapsAreExactNearZeroAndNeverBeyondTheCap) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = {0, 1e-30f, -1e-6f, 1e-3f, 29.9f, -300, 3e38f, -infinity, infinity};
  const auto before = x;
  apply(table(), Elementwise::soft_cap, x, {}, 30);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = 30 * std::tanh(static_cast<double>(before[i]) / 30);
    EXPECT_NEAR(x[i], expected, 5e-7 * std::fabs(expected));
    EXPECT_LE(std::fabs(x[i]), 30);
  }
  std::vector<float> nan = {std::numeric_limits<float>::quiet_NaN()};
  apply(table(), Elementwise::soft_cap, nan, {}, 30);
  EXPECT_TRUE(std::isnan(nan[0]));
}

TEST_P(Math, ExpIsExact) {
  double worst = 0;
  for (int i = 0; i < 200000; ++i) {
    float x = -87.0f + 175.0f * static_cast<float>(i) / 200000;
    const double expected = std::exp(static_cast<double>(x));
    table().exp_shifted(&x, 0, 1);
    worst = std::max(worst, std::fabs(static_cast<double>(x) / expected - 1));
  }
  EXPECT_LT(worst, 1.2e-7);
  RecordProperty("worst", std::to_string(worst * 1e9) + "e-9");

  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> edges = {-infinity, -1e30f, -104.5f, 0, 89.5f, infinity};
  EXPECT_EQ(table().exp_shifted(edges.data(), 0, edges.size()), infinity);
  EXPECT_EQ(edges, (std::vector<float>{0, 0, 0, 1, infinity, infinity}));
  float nan = std::numeric_limits<float>::quiet_NaN();
  table().exp_shifted(&nan, 0, 1);
  EXPECT_TRUE(std::isnan(nan));
}

TEST_P(Math, ExpShiftedSumsWhatItLeaves) {
  for (const std::size_t n : lengths(Format::f32)) {
    auto x = random_.floats(n, 3);
    if (n > 2) x[n / 2] = -std::numeric_limits<float>::infinity();
    const float shift = n == 0 ? 0 : table().max(x.data(), n);
    const auto before = x;
    const float sum = table().exp_shifted(x.data(), shift, n);
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double e = std::exp(static_cast<double>(before[i] - shift));
      ASSERT_NEAR(x[i], e, 3e-7 * e) << n;
      expected += static_cast<double>(x[i]);
    }
    if (n > 2) {
      EXPECT_EQ(x[n / 2], 0);
    }
    EXPECT_NEAR(sum, expected, 1e-6 * expected) << n;
  }
}

TEST(Tables, ScalarIsLastAndBestRuns) {
  EXPECT_STREQ(tables().back()->name, "scalar");
  EXPECT_TRUE(table().runs_here());
}

INSTANTIATE_TEST_SUITE_P(Isa, Math, testing::ValuesIn(all_tables()), isa_name);

}  // namespace
}  // namespace pith::kernels
