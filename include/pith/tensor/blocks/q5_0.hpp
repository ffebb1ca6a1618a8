// SPDX-License-Identifier: MIT
// Weights of five bits around a middle.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 32 values as a scale and quants of five bits (ggml's Q5_0): value[i] = scale * (quant[i] - 16). Of quants, byte i of
/// `nibbles` holds the lower bits of i (low) and i + 16 (high), bit i of `upper` the highest of i.
struct q5_0 {
  f16 scale;
  std::uint8_t upper[4];
  std::uint8_t nibbles[16];
};
static_assert(sizeof(q5_0) == 22);

/// Quant i of 32 that lie as those of a q5_0.
constexpr int five_bits(const std::uint8_t (&upper)[4], const std::uint8_t (&nibbles)[16], int i) {
  return (nibbles[i % 16] >> (i / 16 * 4) & 15) | (upper[i / 8] >> (i % 8) & 1) << 4;
}

/// Puts it where there are zeros.
constexpr void put_five_bits(std::uint8_t (&upper)[4], std::uint8_t (&nibbles)[16], int i, int quant) {
  nibbles[i % 16] = static_cast<std::uint8_t>(nibbles[i % 16] | (quant & 15) << (i / 16 * 4));
  upper[i / 8] = static_cast<std::uint8_t>(upper[i / 8] | quant >> 4 << (i % 8));
}

template <>
struct PITH_API BlockTraits<q5_0> {
  static constexpr std::string_view name = "q5_0";
  static constexpr std::uint32_t ggml_type = 6;
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const q5_0& block, float* out) {
    const float scale = to_float(block.scale);
    for (int i = 0; i < values; ++i) out[i] = scale * static_cast<float>(five_bits(block.upper, block.nibbles, i) - 16);
  }
  static void encode(const float* in, q5_0& block);  // the largest magnitude becomes -16, exactly
};

}  // namespace pith::inline tensor
