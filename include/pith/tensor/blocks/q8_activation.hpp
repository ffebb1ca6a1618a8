// SPDX-License-Identifier: MIT
// Activations in blocks of bytes.
#pragma once

#include <cmath>
#include <cstdint>

#include "pith/tensor/blocks/block.hpp"

namespace pith::inline tensor {

/// 32 activations, as the kernels of weights in blocks take them: value[i] = scale * quants[i].
struct q8_activation {
  float scale;
  std::int16_t sums[2];  // of the quants, of each half
  std::int8_t quants[32];
};
static_assert(sizeof(q8_activation) == 40);

/// Not a format of storage: it has no name.
template <>
struct BlockTraits<q8_activation> {
  static constexpr int values = 32;
  static void decode(const q8_activation& block, float* out) {
    for (int i = 0; i < values; ++i) out[i] = block.scale * static_cast<float>(block.quants[i]);
  }
  static void encode(const float* in, q8_activation& block) {
    float largest = 0;
    for (int i = 0; i < values; ++i) largest = std::fmax(largest, std::fabs(in[i]));
    block.scale = largest / 127.0f;
    const float inverse = block.scale > 1e-30f ? 1.0f / block.scale : 0.0f;  // 1 / scale may overflow
    block.sums[0] = block.sums[1] = 0;
    for (int i = 0; i < values; ++i) {
      const float quant = std::fmin(std::fmax(std::nearbyint(in[i] * inverse), -127.0f), 127.0f);  // NaN gives -127
      block.quants[i] = static_cast<std::int8_t>(quant);
      std::int16_t& sum = block.sums[i / 16];
      sum = static_cast<std::int16_t>(sum + block.quants[i]);
    }
  }
};

}  // namespace pith::inline tensor
