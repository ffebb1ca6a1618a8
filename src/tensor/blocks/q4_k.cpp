// SPDX-License-Identifier: MIT
#include "pith/tensor/blocks/q4_k.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "tensor/blocks/fit.hpp"

namespace pith::inline tensor {

using namespace fit;

namespace {

Affine fit_nibbles(std::span<const float> x) {
  float low = 0, high = x[0];
  for (const float v : x) low = std::fmin(low, v), high = std::fmax(high, v);
  std::array<std::int8_t, 32> quants;
  Affine best = {(high - low) / 15, -low};
  quantise(x, best, 0, 15, quants.data());
  float least = squared_error(x, best, quants.data());
  for (int c = -candidates; c <= candidates; ++c) {
    const float steps = 15 + static_cast<float>(c) * candidate_step;
    quantise(x, {(high - low) / steps, -low}, 0, 15, quants.data());
    const Affine fitted = Moments(x, quants.data()).affine();
    quantise(x, fitted, 0, 15, quants.data());
    const float error = squared_error(x, fitted, quants.data());
    if (error < least) best = fitted, least = error;
  }
  return best;
}

void store_part(q4_k& block, int part, PartScales integers) {
  const auto put = [&](int at, int bits) { block.parts[at] = static_cast<std::uint8_t>(block.parts[at] | bits); };
  if (part < 4) {
    put(part, integers.scale);
    put(part + 4, integers.min);
  } else {
    put(part + 4, (integers.scale & 15) | (integers.min & 15) << 4);
    put(part - 4, integers.scale >> 4 << 6);
    put(part, integers.min >> 4 << 6);
  }
}

}  // namespace

void BlockTraits<q4_k>::encode(const float* in, q4_k& block) {
  constexpr int parts = 8;
  constexpr std::size_t part_values = 32;
  const auto part = [in](int p) { return std::span(in + static_cast<std::size_t>(p) * part_values, part_values); };

  std::array<Affine, parts> wanted;
  Affine largest;
  for (int p = 0; p < parts; ++p) {
    const Affine fitted = wanted[static_cast<std::size_t>(p)] = fit_nibbles(part(p));
    largest = {std::fmax(largest.scale, fitted.scale), std::fmax(largest.min, fitted.min)};
  }
  block.scale = to_f16(largest.scale / 63);
  block.min = to_f16(largest.min / 63);
  const float scale = to_float(block.scale), min = to_float(block.min);

  std::memset(block.parts, 0, sizeof block.parts);
  std::memset(block.nibbles, 0, sizeof block.nibbles);
  for (int p = 0; p < parts; ++p) {
    // Of the integers around those wanted, the pair that leaves the least.
    const Affine& fitted = wanted[static_cast<std::size_t>(p)];
    const PartScales middle = {nearest(fitted.scale * inverse_of(scale), 0, 63),
                               nearest(fitted.min * inverse_of(min), 0, 63)};
    PartScales best = middle;
    std::array<std::int8_t, part_values> quants, best_quants{};
    float least = -1;
    for (int s = std::max(middle.scale - 1, 0); s <= std::min(middle.scale + 1, 63); ++s)
      for (int m = std::max(middle.min - 1, 0); m <= std::min(middle.min + 1, 63); ++m) {
        const Affine affine = {scale * static_cast<float>(s), min * static_cast<float>(m)};
        quantise(part(p), affine, 0, 15, quants.data());
        const float error = squared_error(part(p), affine, quants.data());
        if (least < 0 || error < least) best = {s, m}, best_quants = quants, least = error;
      }
    store_part(block, p, best);
    for (std::size_t i = 0; i < part_values; ++i) {
      std::uint8_t& byte = block.nibbles[static_cast<std::size_t>(p) / 2 * part_values + i];
      byte = static_cast<std::uint8_t>(byte | best_quants[i] << (p % 2 * 4));
    }
  }
}

}  // namespace pith::inline tensor
