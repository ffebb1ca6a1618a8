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
  /// A page begins with its rows' positions.
  static std::byte* begin(const Page& page) {
    return reinterpret_cast<std::byte*>(const_cast<Position*>(page.born().data()));
  }

  /// All that belongs to two rows changes places; neither is pinned.
  static void swap_rows(const Lane& lane, std::size_t a, std::size_t b) {
    constexpr std::size_t capacity = PageLayout::capacity;
    if (a == b) return;
    const PageLayout& layout = lane.layout();
    std::vector<std::byte> aside(layout.bytes());
    std::byte* const x = begin(lane.page(a / capacity));
    std::byte* const y = begin(lane.page(b / capacity));
    layout.copy_row(aside.data(), 0, x, a % capacity);
    layout.copy_row(x, a % capacity, y, b % capacity);
    layout.copy_row(y, b % capacity, aside.data(), 0);
    // So that the pages hear of it.
    lane.row(a).reopen(lane.until(a));
    lane.row(b).reopen(lane.until(b));
  }
};

}  // namespace pith::testing
