// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/iq4_nl.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<iq4_nl>::encode(const float* in, iq4_nl& block) {
  constexpr Listed<iq4_values> list;
  const float scale = fit_scale<values>({in, values}, list);
  block = {.scale = to_f16(scale), .nibbles = {}};
  const float inverse = inverse_of(to_float(block.scale));
  for (std::size_t i = 0; i < values; ++i) put_bits(block.nibbles[i % 16], list.place(in[i] * inverse), i / 16 * 4);
}

}  // namespace pith::inline tensor
