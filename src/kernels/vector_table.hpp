// SPDX-License-Identifier: MIT
// The table of the vector vocabulary at hand. Included last, after the target region.
#pragma once

namespace pith::kernel {
namespace {

template <Block B>
constexpr FormatKernels cached = {matmul<B>, dots<B>, accumulate<B>, encode<B>, decode<B>};
template <Block B>
constexpr FormatKernels weights = {plain_matmul<B>, nullptr, nullptr, plain_encode<B>, plain_decode<B>};

constexpr Table vector_table(const char* name, bool (*runs_here)()) {
  return {
      .name = name,
      .runs_here = runs_here,
      .formats = {cached<float>, cached<f16>, cached<bf16>, cached<q8_0>, weights<q4_0>, weights<q4_k>, weights<q6_k>},
      .quantise = quantise,
      .dot = dot,
      .add = add,
      .rms_norm = rms_norm,
      .layer_norm = layer_norm,
      .silu_multiply = silu_multiply,
      .gelu_tanh = gelu_tanh,
      .gelu = gelu,
      .max = max,
      .exp_shifted = exp_shifted,
      .scale = scale,
      .add_product = add_product,
      .absorb = absorb,
  };
}

}  // namespace
}  // namespace pith::kernel
