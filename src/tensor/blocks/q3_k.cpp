// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q3_k.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q3_k>::encode(const float* in, q3_k& block) {
  const auto fit = fit_block<16, 16>(in, Integers{-4, 3}, {-32, 31}, {0, 0});
  block = {.upper = {}, .pairs = {}, .part_scales = {}, .scale = fit.scale};
  for (std::size_t p = 0; p < 16; ++p) {
    const int integer = fit.integers[p].scale + 32;
    put_bits(block.part_scales[p % 8], integer & 15, p / 8 * 4);
    put_bits(block.part_scales[8 + p % 4], integer >> 4, p / 4 * 2);
  }
  for (std::size_t i = 0; i < values; ++i) {
    const int quant = fit.quants[i] + 4;
    put_bits(block.pairs[i / 128 * 32 + i % 32], quant & 3, i / 32 % 4 * 2);
    put_bits(block.upper[i % 32], quant >> 2, i / 32);
  }
}

}  // namespace pith::inline tensor
