// SPDX-License-Identifier: MIT
// Weights of five bits from a minimum on.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q5_0.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 32 values as a scale, a minimum and quants of five bits (ggml's Q5_1): value[i] = scale * quant[i] + min, with
/// quants as in a q5_0.
struct q5_1 {
  f16 scale, min;
  std::uint8_t upper[4];
  std::uint8_t nibbles[16];
};
static_assert(sizeof(q5_1) == 24);

template <>
struct PITH_API BlockTraits<q5_1> {
  static constexpr std::string_view name = "q5_1";
  static constexpr std::uint32_t ggml_type = 7;
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const q5_1& block, float* out) {
    const float scale = to_float(block.scale), min = to_float(block.min);
    for (int i = 0; i < values; ++i)
      out[i] = scale * static_cast<float>(five_bits(block.upper, block.nibbles, i)) + min;
  }
  static void encode(const float* in, q5_1& block);  // the least value becomes 0, the largest 31
};

}  // namespace pith::inline tensor
