// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q5_1.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q5_1>::encode(const float* in, q5_1& block) {
  const Bounds bounds = bounds_of({in, values});
  const float scale = (bounds.high - bounds.low) / 31, inverse = inverse_of(scale);
  block = {.scale = to_f16(scale), .min = to_f16(bounds.low), .upper = {}, .nibbles = {}};
  for (int i = 0; i < values; ++i)
    put_five_bits(block.upper, block.nibbles, i, whole((in[i] - bounds.low) * inverse + 0.5f, 31));
}

}  // namespace pith::inline tensor
