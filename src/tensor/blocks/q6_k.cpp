// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q6_k.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

namespace {

float fit_six_bits(std::span<const float> x) {
  float extreme = 0;
  for (const float v : x)
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  std::array<std::int8_t, 16> quants;
  float best = extreme / -32;
  quantise(x, {best, 0}, -32, 31, quants.data());
  float least = squared_error(x, {best, 0}, quants.data());
  for (int c = -candidates; c <= candidates; ++c) {
    const float steps = -32 + static_cast<float>(c) * candidate_step;
    quantise(x, {extreme / steps, 0}, -32, 31, quants.data());
    const float fitted = Moments(x, quants.data()).scale();
    quantise(x, {fitted, 0}, -32, 31, quants.data());
    const float error = squared_error(x, {fitted, 0}, quants.data());
    if (error < least) best = fitted, least = error;
  }
  return best;
}

}  // namespace

void BlockTraits<q6_k>::encode(const float* in, q6_k& block) {
  constexpr int parts = 16;
  constexpr std::size_t part_values = 16;
  const auto part = [in](int p) { return std::span(in + static_cast<std::size_t>(p) * part_values, part_values); };

  std::array<float, parts> wanted;
  float extreme = 0;
  for (int p = 0; p < parts; ++p) {
    const float fitted = wanted[static_cast<std::size_t>(p)] = fit_six_bits(part(p));
    if (std::fabs(fitted) > std::fabs(extreme)) extreme = fitted;
  }
  block.scale = to_f16(extreme / -128);
  const float scale = to_float(block.scale);

  std::memset(block.nibbles, 0, sizeof block.nibbles);
  std::memset(block.upper, 0, sizeof block.upper);
  for (int p = 0; p < parts; ++p) {
    const int middle = nearest(wanted[static_cast<std::size_t>(p)] * inverse_of(scale), -128, 127);
    int best = middle;
    std::array<std::int8_t, part_values> quants, best_quants{};
    float least = -1;
    for (int s = std::max(middle - 1, -128); s <= std::min(middle + 1, 127); ++s) {
      const Affine affine = {scale * static_cast<float>(s), 0};
      quantise(part(p), affine, -32, 31, quants.data());
      const float error = squared_error(part(p), affine, quants.data());
      if (least < 0 || error < least) best = s, best_quants = quants, least = error;
    }
    block.part_scales[p] = static_cast<std::int8_t>(best);
    for (std::size_t i = 0; i < part_values; ++i) {
      const std::size_t at = static_cast<std::size_t>(p) * part_values + i, half = at / 128, k = at % 128;
      const int quant = best_quants[i] + 32;
      std::uint8_t& low = block.nibbles[half * 64 + k % 64];
      std::uint8_t& high = block.upper[half * 32 + k % 32];
      low = static_cast<std::uint8_t>(low | (quant & 15) << (k / 64 * 4));
      high = static_cast<std::uint8_t>(high | quant >> 4 << (k / 32 * 2));
    }
  }
}

}  // namespace pith::inline tensor
