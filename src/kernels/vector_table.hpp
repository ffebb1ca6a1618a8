// SPDX-License-Identifier: MIT
// The table of the vector vocabulary at hand. Included last, after the target region.
#pragma once

namespace pith::kernels {
namespace {

template <Block B>
constexpr FormatKernels floats = {.matmul = matmul<B>,
                                  .dots = dots<B>,
                                  .accumulate = accumulate<B>,
                                  .key_panel = key_panel<B>,
                                  .value_panel = value_panel<B>,
                                  .encode = encode<B>,
                                  .decode = decode<B>};
template <Block B>
constexpr auto encode_blocks = plain_encode<B>;
template <>
constexpr auto encode_blocks<q8_0> = encode<q8_0>;
template <Block B>
constexpr auto decode_blocks = plain_decode<B>;
template <>
constexpr auto decode_blocks<q8_0> = decode<q8_0>;
template <Block B>
constexpr FormatKernels squares = {.matmul = matmul_blocks<B>,
                                   .prepare = prepare<typename SquareOf<B>::type>,
                                   .dots = dots_of_squares<typename SquareOf<B>::type>,
                                   .accumulate = weigh_squares<typename SquareOf<B>::type>,
                                   .key_panel = key_panel_of_squares<typename SquareOf<B>::type>,
                                   .value_panel = value_panel_of_squares<typename SquareOf<B>::type>,
                                   .encode = encode_blocks<B>,
                                   .decode = decode_blocks<B>};
template <Block B>
constexpr FormatKernels weights = {.matmul = matmul_blocks<B>, .encode = plain_encode<B>, .decode = plain_decode<B>};

template <Block B>
constexpr FormatKernels kernels_of() {
  if constexpr (!std::is_void_v<typename SquareOf<B>::type>)
    return squares<B>;
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
      .hadamard = hadamard,
      .add_product = add_product,
      .absorb = absorb,
      .absorb_rows = absorb_rows,
      .multiply_panels = multiply_panels,
      .absorb_panel = absorb_panel,
      .weigh_panel = weigh_panel,
  };
}

}  // namespace
}  // namespace pith::kernels
