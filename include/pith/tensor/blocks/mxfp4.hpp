// SPDX-License-Identifier: MIT
// Weights that are floats of four bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "pith/api.hpp"
#include "pith/tensor/blocks/q8_activation.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

/// Twice what a nibble of an mxfp4 means: a sign, two bits of exponent, one of mantissa (E2M1).
inline constexpr std::int8_t mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// 32 values as a power of two and nibbles (ggml's MXFP4; OCP Microscaling Formats 1.0, 5.4): value[i] =
/// 2^(exponent - 127) * mxfp4_values[nibble[i]] / 2, where byte i holds nibbles i (low) and i + 16 (high).
struct mxfp4 {
  std::uint8_t exponent;
  std::uint8_t nibbles[16];
};
static_assert(sizeof(mxfp4) == 17);

template <>
struct PITH_API BlockTraits<mxfp4> {
  static constexpr std::string_view name = "mxfp4";
  static constexpr std::uint32_t ggml_type = 39;
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const mxfp4& block, float* out) {
    const float scale = std::ldexp(1.0f, block.exponent - 128);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * static_cast<float>(mxfp4_values[block.nibbles[i] & 15]);
      out[i + 16] = scale * static_cast<float>(mxfp4_values[block.nibbles[i] >> 4]);
    }
  }
  static void encode(const float* in, mxfp4& block);  // of two exponents that which leaves the least squared error
};

}  // namespace pith::inline tensor
