// SPDX-License-Identifier: MIT
// One forward pass in the making: which tokens of which sequences, and how far it has come.
#pragma once

#include <algorithm>
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
#include "pith/tensor/view.hpp"

namespace pith::inline nn {

/// The new tokens of one sequence: rows [row, row + count) of the pass.
struct Segment {
  KvCache* cache = nullptr;  // null: the sequence was finished while the pass was suspended
  prune::Scratch* scratch = nullptr;
  std::size_t row = 0;
  std::size_t count = 0;
  Position first = 0;                         // of its first token
  Position absent = 0;                        // tokens between its first and its last that are not in it
  Position prompt_begin = 0, prompt_end = 0;  // of the latest prompt
  std::optional<float> tau = {};              // of the learned gate, in place of the policy's
  /// So many are remembered, attend and are judged at a time, as if each time had a pass of its own, bit for bit.
  std::size_t each = static_cast<std::size_t>(-1);
  View<const float> embeddings = {};  // [count, d_model] in place of the tokens'
  View<const float> stream = {};      // [count, d_model] that the layer before a stage has left
  std::vector<Position>* stay = {};   // where tokens leave after the stage: those of the prompt that do not
  std::span<Position> focus =
      {};  // [layer * n_heads + head] the token to which the last one attends most, where wanted

  std::size_t rounds() const { return each < count ? (count + each - 1) / each : 1; }
  Position next() const { return first + static_cast<Position>(count) + absent; }
};

/// Layers [begin, end) that some rows of a pass go through by themselves: those from `row` on.
struct Stage {
  std::size_t row = static_cast<std::size_t>(-1);
  std::size_t begin = 0, end = 0;

  bool has(std::size_t layer) const { return begin <= layer && layer < end; }
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
  Stage stage = {};

  void clear() {
    tokens.clear();
    positions.clear();
    segments.clear();
    layer = 0;
    stage = {};
  }
  bool empty() const { return segments.empty(); }

  /// How many rows, the first ones, are in the present layer.
  std::size_t rows() const { return stage.has(layer) ? positions.size() : std::min(stage.row, positions.size()); }

  /// In so many rounds the present layer remembers and attends to them.
  std::size_t rounds() const {
    std::size_t most = 1;
    for (const Segment& segment : segments)
      if (segment.row < rows()) most = std::max(most, segment.rounds());
    return most;
  }

  /// What is in the present layer and has its turn in a round, as a pass over the same rows: `out`, whose positions are
  /// there already. Other segments are there without a cache.
  void take_round(std::size_t round, Pass& out) const {
    out.layer = layer;
    out.segments = segments;
    for (Segment& segment : out.segments) {
      const bool has_turn = segment.row < rows() && round < segment.rounds();
      if (!has_turn) segment.cache = nullptr;
      if (!has_turn || segment.rounds() == 1) continue;
      const std::size_t before = round * segment.each;
      segment.row += before;
      segment.count = std::min(segment.each, segment.count - before);
      segment.first = out.positions[segment.row];
      segment.absent = 0;
    }
  }
};

}  // namespace pith::inline nn
