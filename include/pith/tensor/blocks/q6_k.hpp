// SPDX-License-Identifier: MIT
// Weights of six bits in parts with a scale each.
#pragma once

#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q8_0.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// 256 values of six bits in 16 parts of 16, each with a signed scale (ggml's Q6_K):
/// value[i] = scale * part_scales[i / 16] * (quant[i] - 32). Of 128 values, low four bits: byte i < 64 holds those of i
/// (low) and of i + 64 (high); high two bits: byte i < 32 holds those of i, i + 32, i + 64, i + 96 from the lowest on.
struct q6_k {
  std::uint8_t nibbles[128];
  std::uint8_t upper[64];
  std::int8_t part_scales[16];
  f16 scale;
};
static_assert(sizeof(q6_k) == 210 && alignof(q6_k) == 2);

template <>
struct PITH_API BlockTraits<q6_k> {
  static constexpr std::string_view name = "q6_k";
  static constexpr std::uint32_t ggml_type = 14;
  static constexpr int values = 256;
  using Activation = q8_activation;
  using Fallback = q8_0;
  static void decode(const q6_k& block, float* out) {
    for (int i = 0; i < values; ++i) {
      const int half = i / 128, k = i % 128;
      const int low = block.nibbles[half * 64 + k % 64] >> (k / 64 * 4) & 15;
      const int high = block.upper[half * 32 + k % 32] >> (k / 32 * 2) & 3;
      const float scale = to_float(block.scale) * static_cast<float>(block.part_scales[i / 16]);
      out[i] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }
  static void encode(const float* in, q6_k& block);  // searches for the least squared error
};

}  // namespace pith::inline tensor
