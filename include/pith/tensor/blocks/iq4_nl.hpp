// SPDX-License-Identifier: MIT
// Weights of four bits that are places in a list of values.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// What a nibble of an iq4_nl or iq4_xs means: closer around zero, where most weights lie.
inline constexpr std::int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

/// 32 values as a scale and nibbles (ggml's IQ4_NL): value[i] = scale * iq4_values[nibble[i]], where byte i holds
/// nibbles i (low) and i + 16 (high).
struct iq4_nl {
  f16 scale;
  std::uint8_t nibbles[16];
};
static_assert(sizeof(iq4_nl) == 18);

template <>
struct PITH_API BlockTraits<iq4_nl> {
  static constexpr std::string_view name = "iq4_nl";
  static constexpr std::uint32_t ggml_type = 20;
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const iq4_nl& block, float* out) {
    const float scale = to_float(block.scale);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * static_cast<float>(iq4_values[block.nibbles[i] & 15]);
      out[i + 16] = scale * static_cast<float>(iq4_values[block.nibbles[i] >> 4]);
    }
  }
  static void encode(const float* in, iq4_nl& block);  // searches for the least squared error
};

}  // namespace pith::inline tensor
