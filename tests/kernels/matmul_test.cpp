// SPDX-License-Identifier: MIT
// Products with weights, at every awkward shape; and bit for bit alone or in company.
#include "kernels/fixture.hpp"
#include "kernels/plain_rows.hpp"

namespace pith::kernels {
namespace {

class Matmul : public Kernels {};

TEST_P(Matmul, IsTheProduct) {
  for (const Format format : all_formats)
    for (const std::size_t cols : lengths(format))
      for (const std::size_t rows : {std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{53}}) {
        const std::size_t tokens = 1 + random_.below(17), y_stride = rows + random_.below(3);
        const std::size_t w_stride = row_bytes(format, cols);
        const Bytes w = encoded(format, random_.floats(rows * cols), cols, w_stride);
        const auto [x, x_stride, xs] = vectors(format, random_.floats(tokens * cols), cols);
        std::vector<float> y(tokens * y_stride, -7);
        kernels(format).matmul(w.data(), w_stride, rows, x.data(), x_stride, tokens, cols, y.data(), y_stride);

        const auto ws = decoded(format, w, rows, cols, w_stride);
        for (std::size_t t = 0; t < tokens; ++t) {
          for (std::size_t r = 0; r < rows; ++r) {
            double sum = 0, magnitude = 0;
            for (std::size_t i = 0; i < cols; ++i) {
              const double product = ws[r * cols + i] * xs[t * cols + i];
              sum += product;
              magnitude += std::fabs(product);
            }
            ASSERT_NEAR(y[t * y_stride + r], sum, bound(magnitude, cols))
                << name(format) << " cols " << cols << " rows " << rows << " tokens " << tokens;
          }
          for (std::size_t r = rows; r < y_stride; ++r) ASSERT_EQ(y[t * y_stride + r], -7) << "written beyond the row";
        }
      }
}

TEST_P(Matmul, OfManyIsOfEachBitwise) {
  for (const Format format : all_formats)
    for (const std::size_t cols : lengths(format))
      for (std::size_t tokens = 1; tokens <= 17; ++tokens) {
        const std::size_t rows = 1 + random_.below(60);
        const std::size_t w_stride = row_bytes(format, cols);
        const Bytes w = encoded(format, random_.floats(rows * cols), cols, w_stride);
        const auto [x, x_stride, xs] = vectors(format, random_.floats(tokens * cols), cols);
        std::vector<float> together(tokens * rows), single(tokens * rows);
        const auto multiply = kernels(format).matmul;
        multiply(w.data(), w_stride, rows, x.data(), x_stride, tokens, cols, together.data(), rows);
        for (std::size_t t = 0; t < tokens; ++t) {
          const std::size_t cut = random_.below(rows + 1);  // rows in two parts, as two threads would
          multiply(w.data(), w_stride, cut, x.data() + t * x_stride, x_stride, 1, cols, &single[t * rows], rows);
          multiply(w.data() + cut * w_stride, w_stride, rows - cut, x.data() + t * x_stride, x_stride, 1, cols,
                   single.data() + t * rows + cut, rows);
        }
        ASSERT_TRUE(same_bits(together, single))
            << name(format) << " cols " << cols << " rows " << rows << " tokens " << tokens;
      }
}

TEST_P(Matmul, ManyTokensArePackedInParts) {
  const std::size_t cols = 256, rows = 35, tokens = 150;
  for (const Format format : all_formats) {
    const std::size_t stride = row_bytes(format, cols);
    const Bytes w = encoded(format, random_.floats(rows * cols), cols, stride);
    const auto [x, x_stride, xs] = vectors(format, random_.floats(tokens * cols), cols);
    std::vector<float> together(tokens * rows), single(tokens * rows);
    const auto multiply = kernels(format).matmul;
    multiply(w.data(), stride, rows, x.data(), x_stride, tokens, cols, together.data(), rows);
    for (std::size_t t = 0; t < tokens; ++t)
      multiply(w.data(), stride, rows, x.data() + t * x_stride, x_stride, 1, cols, &single[t * rows], rows);
    EXPECT_TRUE(same_bits(together, single)) << name(format);
  }
}

TEST_P(Matmul, ExtremeQuantsDoNotOverflow) {
  // Weights of a file may hold -128, which our own encoder never writes.
  for (const int w_quant : {-128, -127, 127})
    for (const int x_quant : {-127, 127})
      for (const std::size_t tokens : {std::size_t{1}, std::size_t{3}}) {
        q8_0 w[2];
        q8_activation x[2 * 3];
        for (q8_0& block : w) {
          block.scale = to_f16(1);
          std::memset(block.quants, w_quant, sizeof block.quants);
        }
        for (q8_activation& block : x) {
          block.scale = 0.5f;
          block.sums[0] = block.sums[1] = static_cast<std::int16_t>(16 * x_quant);
          std::memset(block.quants, x_quant, sizeof block.quants);
        }
        float y[3] = {};
        kernels(Format::q8_0)
            .matmul(reinterpret_cast<const std::byte*>(w), sizeof w, 1, reinterpret_cast<const std::byte*>(x),
                    2 * sizeof(q8_activation), tokens, 64, y, 1);
        for (std::size_t t = 0; t < tokens; ++t) EXPECT_EQ(y[t], static_cast<float>(w_quant * x_quant * 32));
      }
}

/// Blocks of any bytes at all, but for their scales, which are small.
template <Block B>
Bytes any_blocks(std::size_t count, Random& random) {
  Bytes bytes(count * sizeof(B));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.bits());
  for (std::size_t i = 0; i < count; ++i) {
    B block = block_at<B>(bytes.data(), i);
    if constexpr (requires { block.scale; }) block.scale = to_f16(random.floats(1, 0.1f)[0]);
    if constexpr (requires { block.exponent; }) block.exponent = static_cast<std::uint8_t>(110 + random.below(30));
    if constexpr (requires { block.min; }) block.min = to_f16(random.floats(1, 0.1f)[0]);
    std::memcpy(&bytes[i * sizeof(B)], &block, sizeof(B));
  }
  return bytes;
}

TEST_P(Matmul, TakesWhateverBytesAFileHolds) {
  const auto check = [&]<Block B>() {
    const Format format = format_of<B>;
    const std::size_t cols = 512, rows = 37, w_stride = row_bytes(format, cols);
    const Bytes w = any_blocks<B>(rows * cols / BlockTraits<B>::values, random_);
    const auto ws = decoded(format, w, rows, cols, w_stride);
    for (const std::size_t tokens : {std::size_t{1}, std::size_t{5}}) {
      const auto [x, x_stride, xs] = vectors(format, random_.floats(tokens * cols, 10), cols);
      std::vector<float> y(tokens * rows);
      kernels(format).matmul(w.data(), w_stride, rows, x.data(), x_stride, tokens, cols, y.data(), rows);
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t r = 0; r < rows; ++r) {
          double sum = 0, magnitude = 0;
          for (std::size_t i = 0; i < cols; ++i) {
            sum += ws[r * cols + i] * xs[t * cols + i];
            magnitude += std::fabs(ws[r * cols + i] * xs[t * cols + i]);
          }
          ASSERT_NEAR(y[t * rows + r], sum, 4 * bound(magnitude, cols)) << name(format) << " row " << r;
        }
    }
  };
  for (const Format format : all_formats)
    if (wants_quantised(format)) visit(format, check);
}

INSTANTIATE_TEST_SUITE_P(Isa, Matmul, testing::ValuesIn(all_tables()), isa_name);

}  // namespace
}  // namespace pith::kernels
