// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q4_0.hpp"

#include <cmath>

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q4_0>::encode(const float* in, q4_0& block) {
  float extreme = 0;
  for (int i = 0; i < values; ++i)
    if (std::fabs(in[i]) > std::fabs(extreme)) extreme = in[i];
  const float scale = extreme / -8, inverse = inverse_of(scale);
  block.scale = to_f16(scale);
  // Halves are rounded up, as ggml does.
  const auto nibble = [inverse](float v) {
    return static_cast<int>(std::fmin(std::fmax(std::floor(v * inverse + 8.5f), 0.0f), 15.0f));
  };
  for (int i = 0; i < 16; ++i) block.nibbles[i] = static_cast<std::uint8_t>(nibble(in[i]) | nibble(in[i + 16]) << 4);
}

}  // namespace pith::inline tensor
