// SPDX-License-Identifier: MIT
// Blocks of one number.
#pragma once

#include "pith/tensor/blocks/block.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor {

template <>
struct BlockTraits<float> {
  static constexpr std::string_view name = "f32";
  static constexpr std::uint32_t ggml_type = 0;
  static constexpr std::string_view dtype = "F32";
  static constexpr int values = 1;
  using Activation = float;
  static void decode(const float& block, float* out) { *out = block; }
  static void encode(const float* in, float& block) { block = *in; }
};

template <>
struct BlockTraits<f16> {
  static constexpr std::string_view name = "f16";
  static constexpr std::uint32_t ggml_type = 1;
  static constexpr std::string_view dtype = "F16";
  static constexpr int values = 1;
  using Activation = float;
  static void decode(const f16& block, float* out) { *out = to_float(block); }
  static void encode(const float* in, f16& block) { block = to_f16(*in); }
};

template <>
struct BlockTraits<bf16> {
  static constexpr std::string_view name = "bf16";
  static constexpr std::uint32_t ggml_type = 30;
  static constexpr std::string_view dtype = "BF16";
  static constexpr int values = 1;
  using Activation = float;
  static void decode(const bf16& block, float* out) { *out = to_float(block); }
  static void encode(const float* in, bf16& block) { block = to_bf16(*in); }
};

}  // namespace pith::inline tensor
