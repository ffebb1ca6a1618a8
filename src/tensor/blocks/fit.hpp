// SPDX-License-Identifier: MIT
// What encoders of few bits share: a search for the scales that leave the least squared error.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "pith/tensor/blocks/part_scales.hpp"
#include "pith/tensor/half.hpp"

namespace pith::inline tensor::fit {

inline constexpr float least_scale = 1e-30f;  // smaller ones are zero as f16, and 1 / scale may overflow

inline float inverse_of(float scale) { return std::fabs(scale) > least_scale ? 1.0f / scale : 0.0f; }

/// The nearest integer of [low, high]; NaN gives `low`.
inline int nearest(float value, int low, int high) {
  return static_cast<int>(
      std::fmin(std::fmax(std::nearbyint(value), static_cast<float>(low)), static_cast<float>(high)));
}

/// The whole part, of [0, high]; NaN gives 0. Of a value and a half it is the nearest integer, with halves rounded up
/// as ggml does.
inline int whole(float value, int high) {
  return static_cast<int>(std::fmin(std::fmax(std::floor(value), 0.0f), static_cast<float>(high)));
}

/// The number of the largest magnitude.
inline float extreme_of(std::span<const float> x) {
  float extreme = 0;
  for (const float v : x)
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  return extreme;
}

struct Bounds {
  float low, high;
};

inline Bounds bounds_of(std::span<const float> x) {
  Bounds bounds = {x[0], x[0]};
  for (const float v : x) bounds = {std::fmin(bounds.low, v), std::fmax(bounds.high, v)};
  return bounds;
}

/// The quants of [low, high].
struct Integers {
  int low, high;
  static constexpr float step = 0.1f;  // of the search below

  int nearest(float value) const { return fit::nearest(value, low, high); }
  /// The outermost.
  constexpr int extreme() const { return -low > high ? low : high; }
};

/// The quants of a list in rising order.
template <const auto& list>
struct Listed {
  static constexpr float step = 1;

  /// Of the nearest; NaN gives 0.
  static int place(float value) {
    int place = 0;
    for (std::size_t i = 1; i < std::size(list); ++i)
      place += value > 0.5f * static_cast<float>(list[i - 1] + list[i]) ? 1 : 0;
    return place;
  }
  static int nearest(float value) { return list[place(value)]; }
  static constexpr int extreme() { return list[0]; }
};

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

/// Stores the nearest quants; returns what they leave.
template <class Quants>
float quantise(std::span<const float> x, Affine affine, const Quants& of, std::int8_t* quants) {
  const float inverse = inverse_of(affine.scale);
  for (std::size_t i = 0; i < x.size(); ++i)
    quants[i] = static_cast<std::int8_t>(of.nearest((x[i] + affine.min) * inverse));
  return squared_error(x, affine, quants);
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

/// The best of candidates(c) = where to quantise, from which fitted(moments) makes the scale that is tried.
template <std::size_t values, class Quants, class Candidate, class Fitted>
Affine search(std::span<const float> x, const Quants& of, Candidate candidate, Fitted fitted) {
  std::array<std::int8_t, values> quants;
  Affine best = candidate(0.0f);
  float least = quantise(x, best, of, quants.data());
  for (int c = -candidates; c <= candidates; ++c) {
    quantise(x, candidate(static_cast<float>(c) * Quants::step), of, quants.data());
    const Affine tried = fitted(Moments(x, quants.data()));
    const float error = quantise(x, tried, of, quants.data());
    if (error < least) best = tried, least = error;
  }
  return best;
}

/// The scale that leaves the least of x.
template <std::size_t values, class Quants>
float fit_scale(std::span<const float> x, const Quants& of) {
  const float extreme = extreme_of(x);
  return search<values>(
             x, of,
             [&](float c) {
               return Affine{extreme / (static_cast<float>(of.extreme()) + c), 0};
             },
             [](const Moments& moments) {
               return Affine{moments.scale(), 0};
             })
      .scale;
}

/// The scale and minimum that leave the least of x, of quants from 0 on.
template <std::size_t values, class Quants>
Affine fit_affine(std::span<const float> x, const Quants& of) {
  const Bounds bounds = bounds_of(x);
  const float low = std::fmin(bounds.low, 0.0f);
  return search<values>(
      x, of,
      [&](float c) {
        return Affine{(bounds.high - low) / (static_cast<float>(of.extreme()) + c), -low};
      },
      [](const Moments& moments) { return moments.affine(); });
}

/// A block in parts whose scales, and minima, are integers times two numbers of the block.
template <std::size_t parts, std::size_t part_values>
struct Fit {
  f16 scale, min;
  std::array<PartScales, parts> integers;
  std::array<std::int8_t, parts * part_values> quants;
};

/// `scales`: what the integers can be; `mins`: of minima, {0, 0} where the format has none.
template <std::size_t parts, std::size_t part_values, class Quants>
Fit<parts, part_values> fit_block(const float* in, const Quants& of, Integers scales, Integers mins) {
  const auto part = [in](std::size_t p) { return std::span(in + p * part_values, part_values); };
  std::array<Affine, parts> wanted;
  Affine largest;
  for (std::size_t p = 0; p < parts; ++p) {
    wanted[p] = mins.high > 0 ? fit_affine<part_values>(part(p), of) : Affine{fit_scale<part_values>(part(p), of), 0};
    if (std::fabs(wanted[p].scale) > std::fabs(largest.scale)) largest.scale = wanted[p].scale;
    largest.min = std::fmax(largest.min, wanted[p].min);
  }

  Fit<parts, part_values> out;
  out.scale = to_f16(largest.scale / static_cast<float>(scales.extreme()));
  out.min = to_f16(mins.high > 0 ? largest.min / static_cast<float>(mins.high) : 0);
  const float scale = to_float(out.scale), min = to_float(out.min);
  for (std::size_t p = 0; p < parts; ++p) {
    // Of the integers around those wanted, the pair that leaves the least.
    const PartScales middle = {scales.nearest(wanted[p].scale * inverse_of(scale)),
                               mins.nearest(wanted[p].min * inverse_of(min))};
    float least = -1;
    std::array<std::int8_t, part_values> quants;
    for (int s = std::max(middle.scale - 1, scales.low); s <= std::min(middle.scale + 1, scales.high); ++s)
      for (int m = std::max(middle.min - 1, mins.low); m <= std::min(middle.min + 1, mins.high); ++m) {
        const Affine affine = {scale * static_cast<float>(s), min * static_cast<float>(m)};
        const float error = quantise(part(p), affine, of, quants.data());
        if (least >= 0 && !(error < least)) continue;
        out.integers[p] = {s, m};
        std::copy(quants.begin(), quants.end(), out.quants.begin() + p * part_values);
        least = error;
      }
  }
  return out;
}

/// Puts the bits of `value` where there are zeros.
inline void put_bits(std::uint8_t& byte, int value, std::size_t shift) {
  byte = static_cast<std::uint8_t>(byte | value << shift);
}

}  // namespace pith::inline tensor::fit
