// SPDX-License-Identifier: MIT
// A policy that forgets nothing and reorders everything: a lane is a bag of rows, so nobody may notice.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "pith/prune/policy.hpp"
#include "support/random_model.hpp"

namespace pith::testing {

struct Shuffle {
  std::uint64_t seed = 1;

  prune::Needs needs() const { return {}; }
  void after_attention(const KvLayer& layer, const prune::Moment& moment) const {
    Random random(seed + static_cast<std::uint64_t>(moment.next) * 131 + layer.layer());
    for (const Lane& lane : layer.lanes())
      for (std::size_t i = lane.rows(); i > 1; --i)
        swap_rows(lane, i - 1, static_cast<std::size_t>(random.integer(0, static_cast<int>(i) - 1)));
  }

 private:
  static void swap_in_tiles(const PageLayout::Shape& shape, Side side, std::byte* x, std::size_t i, std::byte* y,
                            std::size_t j) {
    std::vector<std::byte> aside(tile_bytes(shape.format, shape.head_dim));
    copy_row(shape.format, side, shape.head_dim, aside.data(), 0, x, i);
    copy_row(shape.format, side, shape.head_dim, x, i, y, j);
    copy_row(shape.format, side, shape.head_dim, y, j, aside.data(), 0);
  }

  /// All that belongs to two rows changes places.
  static void swap_rows(const Lane& lane, std::size_t a, std::size_t b) {
    constexpr std::size_t capacity = PageLayout::capacity;
    if (a == b) return;
    const Page x = lane.page(a / capacity), y = lane.page(b / capacity);
    const auto& shape = lane.layout().shape();
    const std::size_t i = a % capacity, j = b % capacity;
    const auto swap_runs = [](auto* p, auto* q, std::size_t n) { std::swap_ranges(p, p + n, q); };
    for (std::size_t h = 0; h < shape.heads; ++h) {
      swap_in_tiles(shape, Side::keys, x.k(h), i, y.k(h), j);
      swap_in_tiles(shape, Side::values, x.v(h), i, y.v(h), j);
    }
    swap_runs(x.gate() + i * shape.gate_dim, y.gate() + j * shape.gate_dim, shape.gate_dim);
    std::swap(x.born()[i], y.born()[j]);
    const Position until = x.until()[i];
    x.set_until(i, y.until()[j]);
    y.set_until(j, until);
    for (std::size_t e = 0; e < evidence_count; ++e)
      if (const auto kind = static_cast<Evidence>(e); shape.evidence.has(kind))
        std::swap(x.evidence(kind)[i], y.evidence(kind)[j]);
  }
};

}  // namespace pith::testing
