// SPDX-License-Identifier: MIT
// How rows lie in a page: every address inside a page is computed here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "pith/tensor/tile.hpp"

namespace pith::inline cache {

/// Index of a token in its sequence.
using Position = std::int32_t;
inline constexpr Position never = std::numeric_limits<Position>::max();

/// What a row remembers of how it was used; a column of f32 each.
enum class Evidence : std::uint8_t {
  gate_logit,  // s - threshold - tau at the last query that judged the row
  mass,        // attention received so far, summed over queries and heads
  window,      // attention received from the last queries of the prompt
  last,        // attention received from the last query
};
inline constexpr std::size_t evidence_count = 4;

class EvidenceSet {
 public:
  constexpr EvidenceSet() = default;
  constexpr EvidenceSet(Evidence e) : bits_(1u << static_cast<unsigned>(e)) {}  // NOLINT(google-explicit-constructor)
  constexpr bool has(Evidence e) const { return (bits_ >> static_cast<unsigned>(e) & 1u) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr EvidenceSet operator|(EvidenceSet other) const {
    other.bits_ |= bits_;
    return other;
  }

 private:
  unsigned bits_ = 0;
};

/// A page holds up to `capacity` rows as columns:
///   for each head a tile of keys and one of values, all in one run, as attention reads them;
///   gate keys [capacity][gate_dim] f32;
///   born, until [capacity] int32; one f32 [capacity] per kind of evidence.
class PageLayout {
 public:
  static constexpr std::size_t capacity = tile_rows;

  struct Shape {
    Format format = Format::f32;
    std::size_t heads = 1;     // kv-heads that share a lane
    std::size_t head_dim = 0;  // a multiple of block_values(format)
    std::size_t gate_dim = 0;  // 0 = no gate keys
    EvidenceSet evidence = {};
  };

  explicit PageLayout(const Shape& shape) : shape_(shape), tile_bytes_(tile_bytes(shape.format, shape.head_dim)) {
    gate_ = align(2 * shape.heads * tile_bytes_);
    born_ = gate_ + align(capacity * shape.gate_dim * sizeof(float));
    until_ = born_ + capacity * sizeof(Position);
    std::size_t end = until_ + capacity * sizeof(Position);
    for (std::size_t e = 0; e < evidence_count; ++e) {
      evidence_[e] = end;
      if (shape.evidence.has(static_cast<Evidence>(e))) end += capacity * sizeof(float);
    }
    bytes_ = align(end);
  }

  const Shape& shape() const { return shape_; }
  std::size_t bytes() const { return bytes_; }

  std::byte* k(std::byte* page, std::size_t head) const { return page + 2 * head * tile_bytes_; }
  std::byte* v(std::byte* page, std::size_t head) const { return k(page, head) + tile_bytes_; }
  float* gate(std::byte* page) const { return reinterpret_cast<float*>(page + gate_); }
  Position* born(std::byte* page) const { return reinterpret_cast<Position*>(page + born_); }
  Position* until(std::byte* page) const { return reinterpret_cast<Position*>(page + until_); }
  float* evidence(std::byte* page, Evidence e) const {
    return reinterpret_cast<float*>(page + evidence_[static_cast<std::size_t>(e)]);
  }

 private:
  static constexpr std::size_t align(std::size_t n) { return (n + 63) / 64 * 64; }

  Shape shape_;
  std::size_t tile_bytes_;
  std::size_t gate_, born_, until_, bytes_;  // byte offsets, and the total
  std::array<std::size_t, evidence_count> evidence_{};
};

}  // namespace pith::inline cache
