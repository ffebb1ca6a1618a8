// SPDX-License-Identifier: MIT
// Weights of three bits in parts with a scale each.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q4_0.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 256 values of three bits in 16 parts of 16, each with a scale of six bits (ggml's Q3_K):
/// value[i] = scale * (part_scale - 32) * (quant[i] - 4). Of quants, `pairs` holds the lower bits as a q2_k does; the
/// highest of i is bit i / 32 of byte i % 32 of `upper`. How `part_scales` holds the scales: part_scale().
struct q3_k {
  std::uint8_t upper[32];
  std::uint8_t pairs[64];
  std::uint8_t part_scales[12];
  f16 scale;
};
static_assert(sizeof(q3_k) == 110);

/// The integer that scales one of a q3_k's parts, -32 to 31: its lower four bits lie in a nibble of the first eight
/// bytes, the upper two in the last four.
constexpr int part_scale(const q3_k& block, int part) {
  const std::uint8_t* p = block.part_scales;
  return ((p[part % 8] >> (part / 8 * 4) & 15) | (p[8 + part % 4] >> (part / 4 * 2) & 3) << 4) - 32;
}

template <>
struct PITH_API BlockTraits<q3_k> {
  static constexpr std::string_view name = "q3_k";
  static constexpr std::uint32_t ggml_type = 11;
  static constexpr int values = 256;
  using Activation = q8_activation;
  using Fallback = q4_0;
  static void decode(const q3_k& block, float* out) {
    for (int i = 0; i < values; ++i) {
      const int low = block.pairs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
      const int high = block.upper[i % 32] >> (i / 32) & 1;
      const float scale = to_float(block.scale) * static_cast<float>(part_scale(block, i / 16));
      out[i] = scale * static_cast<float>((low | high << 2) - 4);
    }
  }
  static void encode(const float* in, q3_k& block);  // searches for the least squared error
};

}  // namespace pith::inline tensor
