// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q4_1.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q4_1>::encode(const float* in, q4_1& block) {
  const Bounds bounds = bounds_of({in, values});
  const float scale = (bounds.high - bounds.low) / 15, inverse = inverse_of(scale);
  block.scale = to_f16(scale);
  block.min = to_f16(bounds.low);
  const auto nibble = [&](float v) { return whole((v - bounds.low) * inverse + 0.5f, 15); };
  for (int i = 0; i < 16; ++i) block.nibbles[i] = static_cast<std::uint8_t>(nibble(in[i]) | nibble(in[i + 16]) << 4);
}

}  // namespace pith::inline tensor
