// SPDX-License-Identifier: MIT
// How rows lie in a page: every address inside a page is computed here.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "pith/api.hpp"
#include "pith/cache/column.hpp"
#include "pith/tensor/tile.hpp"

namespace pith::inline cache {

/// Index of a token in its sequence.
using Position = std::int32_t;
inline constexpr Position never = std::numeric_limits<Position>::max();

/// Where a column lies in the pages of a layout; false: it does not. A name is looked up once per pass, not per row.
class Slot {
 public:
  constexpr Slot() = default;
  constexpr explicit operator bool() const { return offset_ != 0; }

 private:
  friend class PageLayout;
  constexpr explicit Slot(std::size_t offset) : offset_(offset) {}
  std::size_t offset_ = 0;  // bytes
};

/// A page holds up to `capacity` rows as columns:
///   born, until [capacity] int32; one f32 [capacity] per column of evidence;
///   a tile of gate keys;
///   for each head a tile of keys and one of values, all in one run, as attention reads them.
class PITH_API PageLayout {
 public:
  static constexpr std::size_t capacity = tile_rows;

  struct Shape {
    KvFormat keys = KvFormat::f32, values = KvFormat::f32;
    std::size_t heads = 1;               // kv-heads that share a lane; 0: a lane of gate keys alone
    std::size_t head_dim = 0;            // a multiple of block_values() of both
    std::size_t key_dim = 0;             // the channels of a key that are stored, as many; 0 = all
    std::size_t gate_dim = 0;            // 0 = no gate keys
    KvFormat gate_keys = KvFormat::f32;  // f32 or f16
    Columns evidence = {};
  };

  explicit PageLayout(const Shape& shape) : shape_(shape) {
    if (shape_.key_dim == 0) shape_.key_dim = shape_.head_dim;
    key_bytes_ = tile_bytes(shape_.keys, shape_.key_dim);
    head_bytes_ = key_bytes_ + tile_bytes(shape_.values, shape_.head_dim);
    gate_ = align(evidence_ + shape_.evidence.size() * capacity * sizeof(float));
    heads_ = gate_ + align(tile_bytes(shape_.gate_keys, shape_.gate_dim));
    bytes_ = align(heads_ + shape_.heads * head_bytes_);
  }

  const Shape& shape() const { return shape_; }
  std::size_t bytes() const { return bytes_; }

  /// The same for all layouts that differ in their tiles alone.
  Slot slot(Column column) const {
    std::size_t at = evidence_;
    for (const Column one : shape_.evidence) {
      if (one == column) return Slot(at);
      at += capacity * sizeof(float);
    }
    return {};
  }

  std::byte* k(std::byte* page, std::size_t head) const { return page + heads_ + head * head_bytes_; }
  std::byte* v(std::byte* page, std::size_t head) const { return k(page, head) + key_bytes_; }
  std::byte* gate(std::byte* page) const { return page + gate_; }
  Position* born(std::byte* page) const { return reinterpret_cast<Position*>(page + born_); }
  Position* until(std::byte* page) const { return reinterpret_cast<Position*>(page + until_); }
  float* evidence(std::byte* page, Slot slot) const {
    assert(slot && "a column that the layout has");
    return reinterpret_cast<float*>(page + slot.offset_);
  }

  /// Bytes of born, until and the columns of evidence, with which a page begins.
  std::size_t column_bytes() const { return gate_; }

  /// Row i of page `to` becomes row j of page `from`, with all that lies there.
  void copy_row(std::byte* to, std::size_t i, const std::byte* from, std::size_t j) const;

  /// Copies all of a page but keys to one of a layout that differs in those alone.
  void copy_but_keys(const PageLayout& other, std::byte* to, const std::byte* from) const;

 private:
  static constexpr std::size_t align(std::size_t n) { return (n + 63) / 64 * 64; }

  static constexpr std::size_t born_ = 0, until_ = capacity * sizeof(Position), evidence_ = 2 * until_;  // in bytes

  Shape shape_;
  std::size_t key_bytes_, head_bytes_;  // of a head's tiles
  std::size_t gate_, heads_, bytes_;    // byte offsets, and the total
};

}  // namespace pith::inline cache
