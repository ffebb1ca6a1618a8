// SPDX-License-Identifier: MIT
// Cached rows: dots with queries, weighted sums, encoding and decoding.
#include "kernels/fixture.hpp"

namespace pith::kernels {
namespace {

class Rows : public Kernels {};

TEST_P(Rows, DotsAreProductsOfFloatsWithStoredRows) {
  for (const Format format : float_formats)
    for (const std::size_t dim : lengths(format)) {
      const std::size_t n_rows = random_.below(23), n_queries = 1 + random_.below(9);
      const std::size_t query_stride = dim + random_.below(5), score_stride = n_rows + random_.below(5);
      const std::size_t stride = row_bytes(format, dim);
      const Bytes rows = encoded(format, random_.floats(n_rows * dim), dim, stride);
      const auto queries = random_.floats(n_queries * query_stride);
      std::vector<float> scores(n_queries * score_stride, -7);
      kernels(format).dots(queries.data(), n_queries, query_stride, rows.data(), n_rows, dim, scores.data(),
                           score_stride, nullptr);

      const auto values = decoded(format, rows, dim == 0 ? 0 : n_rows, dim, stride);
      for (std::size_t q = 0; q < n_queries; ++q) {
        for (std::size_t j = 0; j < n_rows; ++j) {
          double sum = 0, magnitude = 0;
          for (std::size_t i = 0; i < dim; ++i) {
            const double product = static_cast<double>(queries[q * query_stride + i]) * values[j * dim + i];
            sum += product;
            magnitude += std::fabs(product);
          }
          ASSERT_NEAR(scores[q * score_stride + j], sum, bound(magnitude, dim)) << name(format) << " dim " << dim;
          float alone = 0;
          kernels(format).dots(&queries[q * query_stride], 1, query_stride, rows.data() + j * stride, 1, dim, &alone, 1,
                               nullptr);
          ASSERT_EQ(scores[q * score_stride + j], alone) << name(format) << " dim " << dim;
        }
        for (std::size_t j = n_rows; j < score_stride; ++j) ASSERT_EQ(scores[q * score_stride + j], -7);
      }
    }
}

TEST_P(Rows, AccumulateAddsWeightedRows) {
  for (const Format format : float_formats)
    for (const std::size_t dim : lengths(format)) {
      const std::size_t n_rows = random_.below(23), n_queries = 1 + random_.below(9);
      const std::size_t weight_stride = n_rows + random_.below(5), out_stride = dim + random_.below(5);
      const std::size_t stride = row_bytes(format, dim);
      const Bytes rows = encoded(format, random_.floats(n_rows * dim), dim, stride);
      const auto weights = random_.floats(n_queries * weight_stride), start = random_.floats(n_queries * out_stride);
      auto out = start;
      kernels(format).accumulate(weights.data(), n_queries, weight_stride, rows.data(), n_rows, dim, out.data(),
                                 out_stride, nullptr);

      const auto values = decoded(format, rows, dim == 0 ? 0 : n_rows, dim, stride);
      for (std::size_t q = 0; q < n_queries; ++q) {
        for (std::size_t i = 0; i < dim; ++i) {
          double sum = static_cast<double>(start[q * out_stride + i]), magnitude = std::fabs(sum);
          for (std::size_t j = 0; j < n_rows; ++j) {
            const double product = static_cast<double>(weights[q * weight_stride + j]) * values[j * dim + i];
            sum += product;
            magnitude += std::fabs(product);
          }
          ASSERT_NEAR(out[q * out_stride + i], sum, bound(magnitude, n_rows)) << name(format) << " dim " << dim;
        }
        for (std::size_t i = dim; i < out_stride; ++i) ASSERT_EQ(out[q * out_stride + i], start[q * out_stride + i]);

        // One query alone, and its rows in two parts, as two pages would be.
        std::vector<float> alone(start.begin() + static_cast<std::ptrdiff_t>(q * out_stride),
                                 start.begin() + static_cast<std::ptrdiff_t>((q + 1) * out_stride));
        const std::size_t cut = random_.below(n_rows + 1);
        const float* ws = weights.data() + q * weight_stride;
        kernels(format).accumulate(ws, 1, weight_stride, rows.data(), cut, dim, alone.data(), out_stride, nullptr);
        kernels(format).accumulate(ws + cut, 1, weight_stride, rows.data() + cut * stride, n_rows - cut, dim,
                                   alone.data(), out_stride, nullptr);
        for (std::size_t i = 0; i < dim; ++i) ASSERT_EQ(alone[i], out[q * out_stride + i]) << name(format);
      }
    }
}

TEST_P(Rows, EncodeAndDecodeAreTheTraitsBitwise) {
  for (const Format format : all_formats)
    for (const std::size_t n : lengths(format)) {
      auto values = random_.floats(n, std::pow(10.0f, static_cast<float>(random_.below(30)) - 15.0f));
      for (float& v : values)
        if (random_.below(5) == 0) v = 0;
      const std::size_t bytes = row_bytes(format, n);
      Bytes row(bytes), expected(bytes);
      kernels(format).encode(values.data(), n, row.data());
      plain().formats[static_cast<std::size_t>(format)].encode(values.data(), n, expected.data());
      ASSERT_EQ(row, expected) << name(format) << " n " << n;

      std::vector<float> back(n), expected_back(n);
      kernels(format).decode(row.data(), n, back.data());
      plain().formats[static_cast<std::size_t>(format)].decode(row.data(), n, expected_back.data());
      ASSERT_TRUE(same_bits(back, expected_back)) << name(format) << " n " << n;
    }
}

TEST_P(Rows, QuantiseIsItsPlainTwinBitwise) {
  for (const std::size_t n : lengths(Format::q8_0)) {
    auto values = random_.floats(n, std::pow(10.0f, static_cast<float>(random_.below(30)) - 15.0f));
    std::vector<q8_activation> blocks(n / 32), expected(n / 32);
    table().quantise(values.data(), n, blocks.data());
    plain().quantise(values.data(), n, expected.data());
    ASSERT_EQ(n == 0 ? 0 : std::memcmp(blocks.data(), expected.data(), n / 32 * sizeof(q8_activation)), 0) << n;
    for (const q8_activation& block : blocks) {
      int sums[2] = {};
      for (std::size_t i = 0; i < 32; ++i) sums[i / 16] += block.quants[i];
      ASSERT_EQ(block.sums[0], sums[0]);
      ASSERT_EQ(block.sums[1], sums[1]);
    }
  }
}

TEST_P(Rows, EveryHalfDecodesAndAnyFloatEncodes) {
  std::vector<f16> halves(1 << 16);
  std::vector<bf16> brains(1 << 16);
  for (std::uint32_t i = 0; i < halves.size(); ++i) {
    halves[i].bits = static_cast<std::uint16_t>(i);
    brains[i].bits = static_cast<std::uint16_t>(i);
  }
  std::vector<float> values(halves.size());
  kernels(Format::f16).decode(reinterpret_cast<const std::byte*>(halves.data()), values.size(), values.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float expected = to_float(halves[i]);
    ASSERT_TRUE(std::isnan(expected) ? std::isnan(values[i]) : same_bits<float>({values[i]}, {expected})) << i;
  }
  kernels(Format::bf16).decode(reinterpret_cast<const std::byte*>(brains.data()), values.size(), values.data());
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_TRUE(same_bits<float>({values[i]}, {to_float(brains[i])})) << i;

  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint32_t bits = random_.bits();
    // A third around the ties and limits of f16.
    if (i % 3 == 0) bits = (bits & 0x80ffe000u) + 0x38000000u + (bits & 1u) * 0xfffu + ((bits >> 1) & 1u);
    values[i] = std::bit_cast<float>(bits);
  }
  const float limits[] = {65504.0f,      65519.99f,     65520.0f,
                          5.9604645e-8f, 2.9802322e-8f, 2.98023224e-8f,
                          6.1e-5f,       -0.0f,         std::numeric_limits<float>::infinity()};
  std::copy(std::begin(limits), std::end(limits), values.begin());
  kernels(Format::f16).encode(values.data(), values.size(), reinterpret_cast<std::byte*>(halves.data()));
  kernels(Format::bf16).encode(values.data(), values.size(), reinterpret_cast<std::byte*>(brains.data()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      ASSERT_TRUE(std::isnan(to_float(halves[i])) && std::isnan(to_float(brains[i])));
    } else {
      ASSERT_EQ(halves[i].bits, to_f16(values[i]).bits) << values[i];
      ASSERT_EQ(brains[i].bits, to_bf16(values[i]).bits) << values[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Rows, testing::ValuesIn(all_tables()), isa_name);

}  // namespace
}  // namespace pith::kernels
