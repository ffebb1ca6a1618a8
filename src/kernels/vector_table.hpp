// SPDX-License-Identifier: MIT
// The table of the vector vocabulary at hand. Included last, after the target region.
#pragma once

namespace pith::kernels {
namespace {

template <Block B>
constexpr FormatKernels floats = {
    .matmul = matmul<B>, .dots = dots<B>, .accumulate = accumulate<B>, .encode = encode<B>, .decode = decode<B>};
constexpr FormatKernels q8_0_kernels = {.matmul = matmul_blocks<q8_0>,
                                        .prepare = prepare,
                                        .dots = dots_q8_0,
                                        .accumulate = accumulate_q8_0,
                                        .encode = encode<q8_0>,
                                        .decode = decode<q8_0>};
template <Block B>
constexpr FormatKernels weights = {.matmul = matmul_blocks<B>, .encode = plain_encode<B>, .decode = plain_decode<B>};

template <Block B>
constexpr FormatKernels kernels_of() {
  if constexpr (std::is_same_v<B, q8_0>)
    return q8_0_kernels;
  else if constexpr (std::is_same_v<typename BlockTraits<B>::Activation, float>)
    return floats<B>;
  else
    return weights<B>;
}

constexpr Table vector_table(const char* name, bool (*runs_here)()) {
  return {
      .name = name,
      .runs_here = runs_here,
      .formats = []<class... B>(TypeList<B...>) { return Table::FormatRows{kernels_of<B>()...}; }(Formats()),
      .quantise = quantise,
      .dot_rounds = dot_rounds,
      .dot = dot,
      .rms_norm = rms_norm,
      .layer_norm = layer_norm,
      .elementwise = elementwise_kernels<Mapped>,
      .max = max,
      .exp_shifted = exp_shifted,
      .add_product = add_product,
      .absorb = absorb,
      .absorb_rows = absorb_rows,
  };
}

}  // namespace
}  // namespace pith::kernels
