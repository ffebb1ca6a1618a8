// SPDX-License-Identifier: MIT
// Rotary position embedding: keys are rotated by their original positions once, before they are stored.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "pith/cache/page_layout.hpp"
#include "pith/nn/config.hpp"
#include "pith/tensor/tensor.hpp"

namespace pith::inline nn {

/// Turns of each pair for the tokens of a pass: cosine and sine times the magnitude, computed in double.
class RopeTable {
 public:
  /// `context`: of the session, which chooses LongRoPE's divisors for all of its positions.
  void fill(const RopeConfig& config, std::size_t head_dim, std::span<const Position> positions, std::size_t context) {
    head_dim_ = head_dim;
    const std::size_t pairs = (config.dim > 0 ? static_cast<std::size_t>(config.dim) : head_dim) / 2;
    const bool stretched = !config.long_divisors.empty() && context > static_cast<std::size_t>(config.original_context);
    const std::vector<float>& divisors = stretched ? config.long_divisors : config.divisors;
    turns_.resize(positions.size(), 2 * pairs);
    frequencies_.resize(pairs);
    for (std::size_t i = 0; i < pairs; ++i) {
      const double exponent = -static_cast<double>(i) / static_cast<double>(pairs);
      const double divisor = divisors.empty() ? 1.0 : static_cast<double>(divisors[i]);
      const double frequency = std::pow(static_cast<double>(config.theta), exponent) / divisor;
      frequencies_[i] = frequency;
      const auto magnitude = static_cast<double>(config.magnitude);
      for (std::size_t t = 0; t < positions.size(); ++t) {
        const double angle = static_cast<double>(positions[t]) * frequency;
        turns_[t][i] = static_cast<float>(magnitude * std::cos(angle));
        turns_[t][pairs + i] = static_cast<float>(magnitude * std::sin(angle));
      }
    }
  }

  /// Rotates the heads of token `t` in place; x is [heads * head_dim].
  void rotate(RopePairs pairs, std::size_t t, std::span<float> x) const {
    const std::size_t half = turns_.cols() / 2;
    const float* const cosines = turns_[t].data();
    for (float* head = x.data(); head != x.data() + x.size(); head += head_dim_)
      pairs == RopePairs::adjacent ? turn(head, head + 1, 2, cosines, half) : turn(head, head + half, 1, cosines, half);
  }

  std::span<const double> frequencies() const { return frequencies_; }  // [pair] radians per position

 private:
  /// Numbers a[i * step] and b[i * step] of each pair. Inlined, so that compilers take several at once where step is 1.
  [[gnu::always_inline]] static void turn(float* a, float* b, std::size_t step, const float* cosines,
                                          std::size_t pairs) {
    const float* const sines = cosines + pairs;
    for (std::size_t i = 0; i < pairs; ++i) {
      const float one = a[i * step], other = b[i * step];
      a[i * step] = one * cosines[i] - other * sines[i];
      b[i * step] = other * cosines[i] + one * sines[i];
    }
  }

  std::size_t head_dim_ = 0;
  std::vector<double> frequencies_;
  Tensor<float> turns_;  // [token] cosines of all pairs, then their sines
};

}  // namespace pith::inline nn
