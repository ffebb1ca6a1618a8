// SPDX-License-Identifier: MIT
// What encoders of few bits share: a search for the scales that leave the least squared error.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pith::inline tensor::fit {

inline constexpr float least_scale = 1e-30f;  // smaller ones are zero as f16, and 1 / scale may overflow

inline float inverse_of(float scale) { return std::fabs(scale) > least_scale ? 1.0f / scale : 0.0f; }

/// The nearest integer of [low, high]; NaN gives `low`.
inline int nearest(float value, int low, int high) {
  return static_cast<int>(
      std::fmin(std::fmax(std::nearbyint(value), static_cast<float>(low)), static_cast<float>(high)));
}

/// A part's values are approximated by scale * quant - min.
struct Affine {
  float scale = 0, min = 0;
};

inline float squared_error(std::span<const float> x, Affine affine, const std::int8_t* quants) {
  float error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float off = affine.scale * static_cast<float>(quants[i]) - affine.min - x[i];
    error += off * off;
  }
  return error;
}

inline void quantise(std::span<const float> x, Affine affine, int low, int high, std::int8_t* quants) {
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
inline constexpr int candidates = 8;  // to each side
inline constexpr float candidate_step = 0.1f;

}  // namespace pith::inline tensor::fit
