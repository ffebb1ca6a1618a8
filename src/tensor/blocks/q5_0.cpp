// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q5_0.hpp"

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

void BlockTraits<q5_0>::encode(const float* in, q5_0& block) {
  const float scale = extreme_of({in, values}) / -16, inverse = inverse_of(scale);
  block = {.scale = to_f16(scale), .upper = {}, .nibbles = {}};
  for (int i = 0; i < values; ++i) put_five_bits(block.upper, block.nibbles, i, whole(in[i] * inverse + 16.5f, 31));
}

}  // namespace pith::inline tensor
