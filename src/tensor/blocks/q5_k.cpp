// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q5_k.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q5_k>::encode(const float* in, q5_k& block) {
  const auto fit = fit_block<8, 32>(in, Integers{0, 31}, {0, 63}, {0, 63});
  block = {.scale = fit.scale, .min = fit.min, .parts = {}, .upper = {}, .nibbles = {}};
  for (std::size_t p = 0; p < 8; ++p) put_part(block.parts, static_cast<int>(p), fit.integers[p]);
  for (std::size_t i = 0; i < values; ++i) {
    put_bits(block.nibbles[i / 64 * 32 + i % 32], fit.quants[i] & 15, i / 32 % 2 * 4);
    put_bits(block.upper[i % 32], fit.quants[i] >> 4, i / 32);
  }
}

}  // namespace pith::inline tensor
