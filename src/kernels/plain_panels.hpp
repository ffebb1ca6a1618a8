// SPDX-License-Identifier: MIT
// The steps of panels' whole numbers, chosen alike by every set of instructions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "pith/tensor/panel.hpp"

namespace pith::kernels {

inline constexpr float largest_whole = 32767;
inline constexpr float longest_whole = 46000;  // of a key: with what rounding adds, its square is below 2^31
inline constexpr float most_together = 65000;  // of 32 weights, with what rounding adds, times largest_whole below 2^31

/// 1 / sqrt x to some 5e-6 of it, for x that is a normal number: two steps of Newton's.
inline float inverse_root(float x) {
  float y = std::bit_cast<float>(0x5f375a86u - (std::bit_cast<std::uint32_t>(x) >> 1));
  for (int i = 0; i < 2; ++i) y *= 1.5f - 0.5f * x * y * y;
  return y;
}

/// The steps of keys, whose largest magnitudes and sums of squares are given, and what their numbers are multiplied
/// with. Those as good as 0 become 0, numbers that are none give steps that are none.
inline void set_steps(const float (&most)[tile_rows], const float (&squares)[tile_rows], std::size_t n_rows,
                      KeyPanel& panel, float (&inverses)[tile_rows]) {
  for (std::size_t j = 0; j < tile_rows; ++j) {
    panel.steps[j] = inverses[j] = 0;
    if (j >= n_rows || squares[j] < 1e-36f) continue;
    const float none = squares[j] - squares[j];  // 0, but of what is infinite or no number
    const float by_length = longest_whole * inverse_root(squares[j]);
    inverses[j] = by_length * most[j] > largest_whole ? largest_whole / most[j] : by_length;
    panel.steps[j] = 1 / inverses[j] + none;
  }
}

/// The step and the levels of values, of which the largest of row j is most[j], and what the row is multiplied with.
inline void set_levels(const float (&most)[tile_rows], ValuePanel& panel, float (&inverses)[tile_rows]) {
  float largest = 0;
  for (const float one : most) largest = one <= largest || largest != largest ? largest : one;  // a NaN stays
  const bool nothing = largest < 1e-30f;
  panel.step = nothing ? 0 : largest / largest_whole;
  const float inverse = nothing ? 0 : largest_whole / largest, share = nothing ? 0 : 1 / largest;
  for (std::size_t j = 0; j < tile_rows; ++j) {
    // 1/2 to 1, and a little more, is level 0.
    const int level = static_cast<int>(std::bit_cast<std::uint32_t>(most[j] * share) >> 23) - 126;
    const int within = level > 0 ? 0 : level < ValuePanel::least_level ? ValuePanel::least_level : level;
    panel.levels[j] = static_cast<float>(within);
    panel.inverses[j] = std::bit_cast<float>(static_cast<std::uint32_t>(127 - within) << 23);
    inverses[j] = inverse * panel.inverses[j];
  }
}

}  // namespace pith::kernels
