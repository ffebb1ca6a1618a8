// SPDX-License-Identifier: MIT
// Weights of four bits from a minimum on.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 32 values as a scale, a minimum and nibbles (ggml's Q4_1): value[i] = scale * nibble[i] + min, where byte i holds
/// nibbles i (low) and i + 16 (high).
struct q4_1 {
  f16 scale, min;
  std::uint8_t nibbles[16];
};
static_assert(sizeof(q4_1) == 20);

template <>
struct PITH_API BlockTraits<q4_1> {
  static constexpr std::string_view name = "q4_1";
  static constexpr std::uint32_t ggml_type = 3;
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const q4_1& block, float* out) {
    const float scale = to_float(block.scale), min = to_float(block.min);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * static_cast<float>(block.nibbles[i] & 15) + min;
      out[i + 16] = scale * static_cast<float>(block.nibbles[i] >> 4) + min;
    }
  }
  static void encode(const float* in, q4_1& block);  // the least value becomes 0, the largest 15
};

}  // namespace pith::inline tensor
