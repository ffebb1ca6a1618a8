// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/mxfp4.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

namespace {

constexpr std::int8_t magnitudes[8] = {0, 1, 2, 3, 4, 6, 8, 12};
static_assert(std::equal(std::begin(magnitudes), std::end(magnitudes), std::begin(mxfp4_values)));

/// Encodes with an exponent; returns the squared error.
float encode_with(int exponent, const float* in, mxfp4& block) {
  block = {.exponent = static_cast<std::uint8_t>(exponent), .nibbles = {}};
  const float inverse = std::ldexp(1.0f, 128 - exponent);
  for (std::size_t i = 0; i < 32; ++i) {
    const int place = Listed<magnitudes>::place(std::fabs(in[i]) * inverse);
    put_bits(block.nibbles[i % 16], in[i] < 0 && place > 0 ? place + 8 : place, i / 16 * 4);
  }
  float out[32], error = 0;
  BlockTraits<mxfp4>::decode(block, out);
  for (std::size_t i = 0; i < 32; ++i) error += (out[i] - in[i]) * (out[i] - in[i]);
  return error;
}

}  // namespace

void BlockTraits<mxfp4>::encode(const float* in, mxfp4& block) {
  constexpr int bias = 127, least = 1, largest = 254;
  int power = 0;  // of two, above the largest magnitude
  std::frexp(extreme_of({in, values}), &power);
  // The largest of the list, 6, lies between the powers 2 and 3.
  const int exponent = std::clamp(power - 3 + bias, least, largest);
  mxfp4 wider;
  const float error = encode_with(exponent, in, block);
  if (exponent < largest && encode_with(exponent + 1, in, wider) < error) block = wider;
}

}  // namespace pith::inline tensor
