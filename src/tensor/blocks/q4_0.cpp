// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q4_0.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q4_0>::encode(const float* in, q4_0& block) {
  const float scale = extreme_of({in, values}) / -8, inverse = inverse_of(scale);
  block.scale = to_f16(scale);
  const auto nibble = [inverse](float v) { return whole(v * inverse + 8.5f, 15); };
  for (int i = 0; i < 16; ++i) block.nibbles[i] = static_cast<std::uint8_t>(nibble(in[i]) | nibble(in[i + 16]) << 4);
}

}  // namespace pith::inline tensor
