// SPDX-License-Identifier: MIT
// The loop of byte-pair encoding (Sennrich et al. 2016): of all neighbours that may merge, those of the best rank do,
// the leftmost first, until none may. A linked list and a heap make it O(n log n) in the length of a word.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "pith/tokenizer.hpp"

namespace pith::text {

struct Symbol {
  Token id = -1;            // -1: no token spells it
  std::uint32_t begin = 0;  // its bytes in the word
  std::uint32_t bytes = 0;  // 0: it has been merged into the one before
  std::uint32_t previous = 0, next = 0;
};

/// What a pair becomes; the lowest rank goes first.
struct Merge {
  std::uint32_t rank;
  Token id;
};

class Merger {
 public:
  std::vector<Symbol> symbols;  // the caller's to fill; previous and next are set here

  /// `find(left, right)` says whether two symbols merge: std::optional<Merge>. Afterwards `symbols` holds what is left,
  /// in order.
  template <class Find>
  void run(const Find& find) {
    const auto n = static_cast<std::uint32_t>(symbols.size());
    if (n < 2) return;
    queue_.clear();
    for (std::uint32_t i = 0; i < n; ++i) {
      symbols[i].previous = i - 1;  // of the first: `none`
      symbols[i].next = i + 1 == n ? none : i + 1;
    }
    for (std::uint32_t i = 0; i + 1 < n; ++i)
      if (const auto candidate = look(i, i + 1, find)) queue_.push_back(*candidate);
    std::make_heap(queue_.begin(), queue_.end(), std::greater<>());

    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
      const Candidate best = queue_.back();
      queue_.pop_back();
      const std::uint32_t at = best.left();
      Symbol& left = symbols[at];
      // Either of the two has merged with another neighbour since.
      if (left.bytes == 0 || left.next == none || left.bytes + symbols[left.next].bytes != best.bytes) continue;

      Symbol& right = symbols[left.next];
      left.id = best.id;
      left.bytes += right.bytes;
      right.bytes = 0;
      left.next = right.next;
      if (left.next != none) symbols[left.next].previous = at;
      if (left.previous != none) push(left.previous, at, find);
      if (left.next != none) push(at, left.next, find);
    }
    std::erase_if(symbols, [](const Symbol& s) { return s.bytes == 0; });
  }

 private:
  static constexpr std::uint32_t none = 0xffffffff;

  struct Candidate {
    std::uint64_t key;    // rank << 32 | index of the left symbol
    std::uint32_t bytes;  // of both symbols as they were: tells whether they still are
    Token id;

    std::uint32_t left() const { return static_cast<std::uint32_t>(key); }
    bool operator>(const Candidate& other) const { return key > other.key; }
  };

  template <class Find>
  std::optional<Candidate> look(std::uint32_t left, std::uint32_t right, const Find& find) const {
    const std::optional<Merge> merge = find(symbols[left], symbols[right]);
    if (!merge) return {};
    return Candidate{std::uint64_t{merge->rank} << 32 | left, symbols[left].bytes + symbols[right].bytes, merge->id};
  }

  template <class Find>
  void push(std::uint32_t left, std::uint32_t right, const Find& find) {
    if (const auto candidate = look(left, right, find)) {
      queue_.push_back(*candidate);
      std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
    }
  }

  std::vector<Candidate> queue_;
};

}  // namespace pith::text
