// SPDX-License-Identifier: MIT
// Weights of four bits around a middle.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 32 values as a scale and nibbles (ggml's Q4_0): value[i] = scale * (nibble[i] - 8), where byte i holds nibbles i
/// (low) and i + 16 (high).
struct q4_0 {
  f16 scale;
  std::uint8_t nibbles[16];
};
static_assert(sizeof(q4_0) == 18);

template <>
struct PITH_API BlockTraits<q4_0> {
  static constexpr std::string_view name = "q4_0";
  static constexpr std::uint32_t ggml_type = 2;
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const q4_0& block, float* out) {
    const float scale = to_float(block.scale);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * static_cast<float>((block.nibbles[i] & 15) - 8);
      out[i + 16] = scale * static_cast<float>((block.nibbles[i] >> 4) - 8);
    }
  }
  static void encode(const float* in, q4_0& block);  // the largest magnitude becomes -8, exactly
};

}  // namespace pith::inline tensor
