// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q6_k.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q6_k>::encode(const float* in, q6_k& block) {
  const auto fit = fit_block<16, 16>(in, Integers{-32, 31}, {-128, 127}, {0, 0});
  block = {.nibbles = {}, .upper = {}, .part_scales = {}, .scale = fit.scale};
  for (std::size_t p = 0; p < 16; ++p) block.part_scales[p] = static_cast<std::int8_t>(fit.integers[p].scale);
  for (std::size_t i = 0; i < values; ++i) {
    const std::size_t half = i / 128, k = i % 128;
    const int quant = fit.quants[i] + 32;
    put_bits(block.nibbles[half * 64 + k % 64], quant & 15, k / 64 * 4);
    put_bits(block.upper[half * 32 + k % 32], quant >> 4, k / 32 * 2);
  }
}

}  // namespace pith::inline tensor
