// SPDX-License-Identifier: MIT
// Weights of four bits that are places in a list of values, in parts with a scale each.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/iq4_nl.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 256 values in 8 parts of 32, each an iq4_nl with a scale of six bits (ggml's IQ4_XS):
/// value[i] = scale * (part_scale - 32) * iq4_values[nibble[i]]. How the scales lie: part_scale().
struct iq4_xs {
  f16 scale;
  std::uint16_t upper_scales;
  std::uint8_t lower_scales[4];
  std::uint8_t nibbles[128];
};
static_assert(sizeof(iq4_xs) == 136);

/// The integer that scales one of an iq4_xs's parts, -32 to 31.
constexpr int part_scale(const iq4_xs& block, int part) {
  const int low = block.lower_scales[part / 2] >> (part % 2 * 4) & 15, high = block.upper_scales >> (2 * part) & 3;
  return (low | high << 4) - 32;
}

template <>
struct PITH_API BlockTraits<iq4_xs> {
  static constexpr std::string_view name = "iq4_xs";
  static constexpr std::uint32_t ggml_type = 23;
  static constexpr int values = 256;
  using Activation = q8_activation;
  using Fallback = iq4_nl;
  static void decode(const iq4_xs& block, float* out) {
    for (int i = 0; i < values; ++i) {
      const float scale = to_float(block.scale) * static_cast<float>(part_scale(block, i / 32));
      const int nibble = block.nibbles[i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
      out[i] = scale * static_cast<float>(iq4_values[nibble]);
    }
  }
  static void encode(const float* in, iq4_xs& block);  // searches for the least squared error
};

}  // namespace pith::inline tensor
