// SPDX-License-Identifier: MIT
// Weights of five bits in parts with a scale and a minimum each.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/part_scales.hpp"
#include "pith/tensor/blocks/q5_1.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 256 values in 8 parts of 32, as a q4_k with quants of five bits (ggml's Q5_K):
/// value[i] = scale * part_scale * quant[i] - min * part_min. The highest bit of quant i is bit i / 32 of byte i % 32
/// of `upper`, the others lie as those of a q4_k.
struct q5_k {
  f16 scale, min;
  std::uint8_t parts[12];
  std::uint8_t upper[32];
  std::uint8_t nibbles[128];
};
static_assert(sizeof(q5_k) == 176);

template <>
struct PITH_API BlockTraits<q5_k> {
  static constexpr std::string_view name = "q5_k";
  static constexpr std::uint32_t ggml_type = 13;
  static constexpr int values = 256;
  using Activation = q8_activation;
  using Fallback = q5_1;
  static void decode(const q5_k& block, float* out) {
    for (int part = 0; part < 8; ++part) {
      const PartScales integers = part_of(block.parts, part);
      const float scale = to_float(block.scale) * static_cast<float>(integers.scale);
      const float min = to_float(block.min) * static_cast<float>(integers.min);
      for (int i = 0; i < 32; ++i) {
        const int low = block.nibbles[part / 2 * 32 + i] >> (part % 2 * 4) & 15, high = block.upper[i] >> part & 1;
        out[part * 32 + i] = scale * static_cast<float>(low | high << 4) - min;
      }
    }
  }
  static void encode(const float* in, q5_k& block);  // searches for the least squared error
};

}  // namespace pith::inline tensor
