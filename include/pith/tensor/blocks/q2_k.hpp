// SPDX-License-Identifier: MIT
// Weights of two bits in parts with a scale and a minimum each.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q4_0.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 256 values in 16 parts of 16, each with a scale (low) and a minimum (high) of four bits (ggml's Q2_K):
/// value[i] = scale * part_scale * quant[i] - min * part_min. Of 128 values, byte i < 32 holds quants i, i + 32, i + 64
/// and i + 96 from the lowest bits on.
struct q2_k {
  std::uint8_t part_scales[16];
  std::uint8_t pairs[64];
  f16 scale, min;
};
static_assert(sizeof(q2_k) == 84);

template <>
struct PITH_API BlockTraits<q2_k> {
  static constexpr std::string_view name = "q2_k";
  static constexpr std::uint32_t ggml_type = 10;
  static constexpr int values = 256;
  using Activation = q8_activation;
  using Fallback = q4_0;
  static void decode(const q2_k& block, float* out) {
    for (int i = 0; i < values; ++i) {
      const int integers = block.part_scales[i / 16];
      const float scale = to_float(block.scale) * static_cast<float>(integers & 15);
      const float min = to_float(block.min) * static_cast<float>(integers >> 4);
      const int quant = block.pairs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
      out[i] = scale * static_cast<float>(quant) - min;
    }
  }
  static void encode(const float* in, q2_k& block);  // searches for the least squared error
};

}  // namespace pith::inline tensor
