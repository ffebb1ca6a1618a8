// SPDX-License-Identifier: MIT
// A bag of rows: what one layer (or one kv-head of it) remembers of one sequence. The order of rows means nothing:
// each carries its position, and erasing moves the last row into the hole.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "pith/cache/page_layout.hpp"
#include "pith/cache/page_pool.hpp"

namespace pith::inline cache {

/// Up to PageLayout::capacity rows of a lane. A query at position n sees row j iff born[j] <= n < until[j].
class Page {
 public:
  /// `earliest_until`: the lane's note of a position before which none of the page's rows closes.
  Page(const PageLayout& layout, std::byte* memory, std::size_t rows, Position& earliest_until)
      : layout_(&layout), memory_(memory), rows_(rows), earliest_until_(&earliest_until) {}

  std::size_t rows() const { return rows_; }
  std::byte* k(std::size_t head) const { return layout_->k(memory_, head); }  // a tile
  std::byte* v(std::size_t head) const { return layout_->v(memory_, head); }
  float* gate() const { return layout_->gate(memory_); }  // [rows][gate_dim]
  std::span<Position> born() const { return {layout_->born(memory_), rows_}; }
  std::span<const Position> until() const { return {layout_->until(memory_), rows_}; }
  std::span<float> evidence(Evidence e) const { return {layout_->evidence(memory_, e), rows_}; }

  /// The row is seen up to `until`.
  void set_until(std::size_t row, Position until) const {
    layout_->until(memory_)[row] = until;
    if (until < *earliest_until_) *earliest_until_ = until;
  }

 private:
  const PageLayout* layout_;
  std::byte* memory_;
  std::size_t rows_;
  Position* earliest_until_;
};

class Lane {
 public:
  /// Both outlive the lane. `expected_rows`: how many rows its page table makes room for at once.
  Lane(const PageLayout& layout, PagePool& pool, std::size_t expected_rows);
  ~Lane() { clear(); }
  Lane(Lane&& other) noexcept;
  Lane& operator=(Lane&&) = delete;

  std::size_t rows() const { return rows_; }
  std::size_t pages() const { return table_.size(); }
  Page page(std::size_t i) const {
    const std::size_t rows = i + 1 < table_.size() ? PageLayout::capacity : rows_ - i * PageLayout::capacity;
    return {*layout_, table_[i].memory, rows, table_[i].earliest_until};
  }
  const PageLayout& layout() const { return *layout_; }

  Position born(std::size_t row) const { return page_of(row).born()[row % PageLayout::capacity]; }
  Position until(std::size_t row) const { return page_of(row).until()[row % PageLayout::capacity]; }
  float& evidence(Evidence e, std::size_t row) const { return page_of(row).evidence(e)[row % PageLayout::capacity]; }

  /// The row will not be seen from position `until` on; closing again can only bring that forward.
  void close(std::size_t row, Position until) const {
    if (until < this->until(row)) set_until(row, until);
  }

  /// The row is seen up to `until` again.
  void reopen(std::size_t row, Position until) const { set_until(row, until); }

  /// A position before which no row of the page closes: known without a look at the page.
  Position earliest_until(std::size_t page) const { return table_[page].earliest_until; }

  /// Looks at the page's rows to know that position exactly.
  void find_earliest_until(std::size_t page) const;

  /// How many pages `count` more rows take from the pool.
  std::size_t pages_for(std::size_t count) const {
    return (rows_ + count + PageLayout::capacity - 1) / PageLayout::capacity - table_.size();
  }

  /// A new row seen from `born` to `until`; its evidence is 0, its key, value and gate key are the caller's to write.
  /// Returns its index. Throws as PagePool::take.
  std::size_t append(Position born, Position until);

  /// Moves the last row, with all that belongs to it, into the place of `row`. An emptied page returns to the pool.
  void erase(std::size_t row);

  void clear();

  /// Makes this (empty) lane a copy of `other`, rows in the same order.
  void copy_from(const Lane& other);

 private:
  struct Entry {
    std::byte* memory;
    mutable Position earliest_until;  // written along with the page's memory
  };

  Page page_of(std::size_t row) const { return page(row / PageLayout::capacity); }
  void set_until(std::size_t row, Position until) const { page_of(row).set_until(row % PageLayout::capacity, until); }

  const PageLayout* layout_;
  PagePool* pool_;
  std::vector<Entry> table_;
  std::size_t rows_ = 0;
};

}  // namespace pith::inline cache
