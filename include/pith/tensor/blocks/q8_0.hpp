// SPDX-License-Identifier: MIT
// Weights and cached rows of eight bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 32 values as a scale and signed bytes (ggml's Q8_0): value[i] = scale * quants[i].
struct q8_0 {
  f16 scale;
  std::int8_t quants[32];
};
static_assert(sizeof(q8_0) == 34 && alignof(q8_0) == 2);

template <>
struct BlockTraits<q8_0> {
  static constexpr std::string_view name = "q8_0";
  static constexpr std::uint32_t ggml_type = 8;
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const q8_0& block, float* out) {
    const float scale = to_float(block.scale);
    for (int i = 0; i < values; ++i) out[i] = scale * static_cast<float>(block.quants[i]);
  }
  static void encode(const float* in, q8_0& block) {
    float largest = 0;
    for (int i = 0; i < values; ++i) largest = std::fmax(largest, std::fabs(in[i]));
    const float scale = largest / 127.0f;
    const float inverse =
        scale > 1e-30f ? 1.0f / scale : 0.0f;  // smaller ones are zero as f16, and 1 / scale may overflow
    block.scale = to_f16(scale);
    for (int i = 0; i < values; ++i) {
      const float quant = std::fmin(std::fmax(std::nearbyint(in[i] * inverse), -127.0f), 127.0f);  // NaN gives -127
      block.quants[i] = static_cast<std::int8_t>(quant);
    }
  }
};

}  // namespace pith::inline tensor
