// SPDX-License-Identifier: MIT
// Encoding into blocks of few bits: a search for the scales that leave the least squared error.
#include "pith/tensor/format.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace pith::inline tensor {
namespace {

constexpr float least_scale = 1e-30f;  // smaller ones are zero as f16, and 1 / scale may overflow

float inverse_of(float scale) { return std::fabs(scale) > least_scale ? 1.0f / scale : 0.0f; }

/// The nearest integer of [low, high]; NaN gives `low`.
int nearest(float value, int low, int high) {
  return static_cast<int>(
      std::fmin(std::fmax(std::nearbyint(value), static_cast<float>(low)), static_cast<float>(high)));
}

/// A part's values are approximated by scale * quant - min.
struct Affine {
  float scale = 0, min = 0;
};

float squared_error(std::span<const float> x, Affine affine, const std::int8_t* quants) {
  float error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float off = affine.scale * static_cast<float>(quants[i]) - affine.min - x[i];
    error += off * off;
  }
  return error;
}

void quantise(std::span<const float> x, Affine affine, int low, int high, std::int8_t* quants) {
  const float inverse = inverse_of(affine.scale);
  for (std::size_t i = 0; i < x.size(); ++i)
    quants[i] = static_cast<std::int8_t>(nearest((x[i] + affine.min) * inverse, low, high));
}

/// Sums over values x and what they are approximated with, for least squares.
struct Moments {
  float n = 0, q = 0, qq = 0, x = 0, qx = 0;

  Moments(std::span<const float> values, const std::int8_t* quants) : n(static_cast<float>(values.size())) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto quant = static_cast<float>(quants[i]);
      q += quant;
      qq += quant * quant;
      x += values[i];
      qx += quant * values[i];
    }
  }

  /// The scale that fits best without a minimum.
  float scale() const { return qq > 0 ? qx / qq : 0; }

  /// The scale and minimum that fit best; a minimum is not negative.
  Affine affine() const {
    const float determinant = n * qq - q * q;
    if (determinant > 0) {
      const Affine best = {(n * qx - q * x) / determinant, (q * qx - qq * x) / determinant};
      if (best.min >= 0 && best.scale >= 0) return best;
    }
    return {std::max(scale(), 0.0f), 0};
  }
};

// Candidates for the step between two quants lie around the one at which the extremes just fit.
constexpr int candidates = 8;  // to each side
constexpr float candidate_step = 0.1f;

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

void BlockTraits<q4_0>::encode(const float* in, q4_0& block) {
  float extreme = 0;
  for (int i = 0; i < values; ++i)
    if (std::fabs(in[i]) > std::fabs(extreme)) extreme = in[i];
  const float scale = extreme / -8, inverse = inverse_of(scale);
  block.scale = to_f16(scale);
  // Halves are rounded up, as ggml does.
  const auto nibble = [inverse](float v) {
    return static_cast<int>(std::fmin(std::fmax(std::floor(v * inverse + 8.5f), 0.0f), 15.0f));
  };
  for (int i = 0; i < 16; ++i) block.nibbles[i] = static_cast<std::uint8_t>(nibble(in[i]) | nibble(in[i + 16]) << 4);
}

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
