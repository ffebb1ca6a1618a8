// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/iq4_xs.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<iq4_xs>::encode(const float* in, iq4_xs& block) {
  constexpr Listed<iq4_values> list;
  const auto fit = fit_block<8, 32>(in, list, {-32, 31}, {0, 0});
  block = {.scale = fit.scale, .upper_scales = 0, .lower_scales = {}, .nibbles = {}};
  for (std::size_t p = 0; p < 8; ++p) {
    const int integer = fit.integers[p].scale + 32;
    put_bits(block.lower_scales[p / 2], integer & 15, p % 2 * 4);
    block.upper_scales = static_cast<std::uint16_t>(block.upper_scales | integer >> 4 << (2 * p));
  }
  for (std::size_t i = 0; i < values; ++i)
    put_bits(block.nibbles[i / 32 * 16 + i % 16], list.place(fit.quants[i]), i / 16 % 2 * 4);
}

}  // namespace pith::inline tensor
