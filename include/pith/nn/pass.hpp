// SPDX-License-Identifier: MIT
// One forward pass in the making: which tokens of which sequences, and how far it has come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pith/api.hpp"
#include "pith/cache/kv_cache.hpp"
#include "pith/error.hpp"
#include "pith/prune/policy.hpp"

namespace pith::inline nn {

/// The new tokens of one sequence: rows [row, row + count) of the pass, positions first, first + 1, …
struct Segment {
  KvCache* cache = nullptr;  // null: the sequence was finished while the pass was suspended
  prune::Scratch* scratch = nullptr;
  std::size_t row = 0;
  std::size_t count = 0;
  Position first = 0;
  Position prompt_begin = 0, prompt_end = 0;  // of the latest prompt
  std::optional<float> tau = {};              // of the learned gate, in place of the policy's
  std::span<Position> focus =
      {};  // [layer * n_heads + head] the token to which the last one attends most, where wanted

  Position next() const { return first + static_cast<Position>(count); }
};

/// One sequence of a pass cannot go on; the others can, once its segment's cache is null.
class PITH_API SegmentError : public Error {
 public:
  SegmentError(ErrorCode code, const std::string& message, std::size_t segment)
      : Error(code, message), segment_(segment) {}
  std::size_t segment() const { return segment_; }

 private:
  std::size_t segment_;
};

/// The rows of several sequences side by side, with no padding. A pass that was stopped between two layers goes on
/// from `layer`.
struct Pass {
  std::vector<std::int32_t> tokens;
  std::vector<Position> positions;
  std::vector<Segment> segments;
  std::size_t layer = 0;

  void clear() {
    tokens.clear();
    positions.clear();
    segments.clear();
    layer = 0;
  }
  bool empty() const { return segments.empty(); }
};

}  // namespace pith::inline nn
