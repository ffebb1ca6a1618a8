// SPDX-License-Identifier: MIT
// Weights of four bits in parts with a scale and a minimum each.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/part_scales.hpp"
#include "pith/tensor/blocks/q5_0.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 256 values in 8 parts of 32, each with a scale and a minimum of its own, of six bits (ggml's Q4_K):
/// value[i] = scale * part_scale * nibble[i] - min * part_min. Of 64 values, byte i holds nibbles i (low) and i + 32
/// (high). How `parts` holds the pairs of integers: part_of().
struct q4_k {
  f16 scale, min;
  std::uint8_t parts[12];
  std::uint8_t nibbles[128];
};
static_assert(sizeof(q4_k) == 144);

template <>
struct PITH_API BlockTraits<q4_k> {
  static constexpr std::string_view name = "q4_k";
  static constexpr std::uint32_t ggml_type = 12;
  static constexpr int values = 256;
  using Activation = q8_activation;
  using Fallback = q5_0;
  static void decode(const q4_k& block, float* out) {
    for (int part = 0; part < 8; ++part) {
      const PartScales integers = part_of(block.parts, part);
      const float scale = to_float(block.scale) * static_cast<float>(integers.scale);
      const float min = to_float(block.min) * static_cast<float>(integers.min);
      for (int i = 0; i < 32; ++i) {
        const int nibble = block.nibbles[part / 2 * 32 + i] >> (part % 2 * 4) & 15;
        out[part * 32 + i] = scale * static_cast<float>(nibble) - min;
      }
    }
  }
  static void encode(const float* in, q4_k& block);  // searches for the least squared error
};

}  // namespace pith::inline tensor
