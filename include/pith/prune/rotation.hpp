// SPDX-License-Identifier: MIT
// The rotary position embedding that a layer's queries and stored keys carry, for policies that look behind it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "pith/api.hpp"
#include "pith/cache/page_layout.hpp"

namespace pith::prune {

/// R_p turns pair i by p * frequencies[i] and stretches it by the magnitude; what is in no pair stays as it is.
struct PITH_API Rotation {
  std::span<const double> frequencies = {};  // [pair]; empty: nothing turns
  float magnitude = 1;
  bool adjacent = false;  // pair i is (2i, 2i + 1), else (i, i + pairs)

  /// x = R_p^-1 x, for the heads of x [heads * head_dim].
  void undo(Position p, std::size_t head_dim, std::span<float> x) const;

  /// turns = [pair] (cosine, sine) of the mean of R_p over the positions [begin, end).
  void mean(Position begin, Position end, std::vector<float>& turns) const;

  /// x = R^T x for R of such turns; x is one head.
  void transposed(std::span<const float> turns, std::span<float> x) const;

 private:
  std::size_t first(std::size_t pair) const { return adjacent ? 2 * pair : pair; }
  std::size_t second(std::size_t pair) const { return adjacent ? 2 * pair + 1 : pair + frequencies.size(); }
};

}  // namespace pith::prune
