// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q2_k.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q2_k>::encode(const float* in, q2_k& block) {
  const auto fit = fit_block<16, 16>(in, Integers{0, 3}, {0, 15}, {0, 15});
  block = {.part_scales = {}, .pairs = {}, .scale = fit.scale, .min = fit.min};
  for (std::size_t p = 0; p < 16; ++p)
    block.part_scales[p] = static_cast<std::uint8_t>(fit.integers[p].scale | fit.integers[p].min << 4);
  for (std::size_t i = 0; i < values; ++i) put_bits(block.pairs[i / 128 * 32 + i % 32], fit.quants[i], i / 32 % 4 * 2);
}

}  // namespace pith::inline tensor
