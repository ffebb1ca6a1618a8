// SPDX-License-Identifier: MIT
// Rotary position embedding: keys are rotated by their original positions once, before they are stored.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "pith/cache/page_layout.hpp"
#include "pith/nn/config.hpp"
#include "pith/tensor/tensor.hpp"

namespace pith::inline nn {

/// Turns of each pair for the tokens of a pass: cosine and sine, computed in double.
class RopeTable {
 public:
  void fill(const RopeConfig& config, std::size_t head_dim, std::span<const Position> positions) {
    const std::size_t pairs = head_dim / 2;
    turns_.resize(positions.size(), 2 * pairs);
    for (std::size_t i = 0; i < pairs; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
      const double divisor = config.divisors.empty() ? 1.0 : static_cast<double>(config.divisors[i]);
      const double frequency = std::pow(static_cast<double>(config.theta), exponent) / divisor;
      for (std::size_t t = 0; t < positions.size(); ++t) {
        const double angle = static_cast<double>(positions[t]) * frequency;
        turns_[t][2 * i] = static_cast<float>(std::cos(angle));
        turns_[t][2 * i + 1] = static_cast<float>(std::sin(angle));
      }
    }
  }

  /// Rotates the heads of token `t` in place; x is [heads * head_dim].
  void rotate(RopePairs pairs, std::size_t t, std::span<float> x) const {
    const std::span<const float> turn = turns_[t];
    const std::size_t head_dim = turn.size();
    const std::size_t half = head_dim / 2;
    const std::size_t step = pairs == RopePairs::adjacent ? 2 : 1;
    const std::size_t other = pairs == RopePairs::adjacent ? 1 : half;
    for (float* head = x.data(); head != x.data() + x.size(); head += head_dim) {
      for (std::size_t i = 0; i < half; ++i) {
        float& a = head[i * step];
        float& b = head[i * step + other];
        const float cosine = turn[2 * i], sine = turn[2 * i + 1];
        const float rotated = a * cosine - b * sine;
        b = b * cosine + a * sine;
        a = rotated;
      }
    }
  }

 private:
  Tensor<float> turns_;  // [token][pair] (cosine, sine)
};

}  // namespace pith::inline nn
