// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q4_k.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q4_k>::encode(const float* in, q4_k& block) {
  const auto fit = fit_block<8, 32>(in, Integers{0, 15}, {0, 63}, {0, 63});
  block = {.scale = fit.scale, .min = fit.min, .parts = {}, .nibbles = {}};
  for (std::size_t p = 0; p < 8; ++p) put_part(block.parts, static_cast<int>(p), fit.integers[p]);
  for (std::size_t i = 0; i < values; ++i) put_bits(block.nibbles[i / 64 * 32 + i % 32], fit.quants[i], i / 32 % 2 * 4);
}

}  // namespace pith::inline tensor
