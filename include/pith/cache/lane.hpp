// SPDX-License-Identifier: MIT
// A bag of rows: what one layer (or one kv-head of it) remembers of one sequence. The order of rows means nothing:
// each carries its position, and erasing moves the last row into the hole.
#pragma once

#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pith/api.hpp"
#include "pith/cache/page_layout.hpp"
#include "pith/cache/page_pool.hpp"

namespace pith::inline cache {

class Row;

/// Which channels of keys a lane stores, where those are not all.
struct KeyChannels {
  PageLayout layout;
  std::vector<std::uint16_t> kept;  // [head][key_dim], ascending for each head

  /// Of one head: [key_dim].
  std::span<const std::uint16_t> of(std::size_t head) const {
    return std::span(kept).subspan(head * layout.shape().key_dim, layout.shape().key_dim);
  }
};

/// A lane's note of one of its pages. Lanes of forked sequences share pages, of which each is copied for the one that
/// writes to it first.
struct PageEntry {
  mutable std::byte* page;
  mutable Position earliest_until;        // before which none of its rows closes
  std::uint32_t pinned;                   // row i: bit i
  mutable PagePool* shared_in = nullptr;  // where other lanes may hold the page, too

  /// Threads that work on pages side by side look ahead at each other's.
  std::byte* memory() const { return std::atomic_ref(page).load(std::memory_order_relaxed); }

  /// The page can be written to. Throws as PagePool::take, unless it could be before.
  void own(std::size_t bytes) const {
    if (shared_in == nullptr) return;
    std::atomic_ref(page).store(shared_in->own(page, bytes), std::memory_order_relaxed);
    shared_in = nullptr;
  }
};
static_assert(PageLayout::capacity == 32, "a bit for each row");

/// Up to PageLayout::capacity rows of a lane. A query at position n sees row j iff born[j] <= n < until[j].
class Page {
 public:
  /// `channels`: null where keys are whole.
  Page(const PageLayout& layout, const PageEntry& entry, std::size_t rows, const KeyChannels* channels = nullptr)
      : layout_(&layout), entry_(&entry), rows_(rows), channels_(channels) {}

  const PageLayout& layout() const { return *layout_; }
  const KeyChannels* channels() const { return channels_; }
  std::size_t rows() const { return rows_; }
  Row row(std::size_t i) const;
  std::byte* k(std::size_t head) const { return layout_->k(entry_->memory(), head); }  // a tile
  std::byte* v(std::size_t head) const { return layout_->v(entry_->memory(), head); }  // a tile
  std::byte* gate() const { return layout_->gate(entry_->memory()); }                  // a tile
  std::span<const Position> born() const { return {layout_->born(entry_->memory()), rows_}; }
  std::span<const Position> until() const { return {layout_->until(entry_->memory()), rows_}; }
  bool pinned(std::size_t row) const { return (entry_->pinned >> row & 1u) != 0; }
  std::span<float> evidence(Slot slot) const { return {layout_->evidence(entry_->memory(), slot), rows_}; }

  /// The row is seen up to `until`, unless it is pinned: then nothing changes.
  void set_until(std::size_t row, Position until) const {
    if (pinned(row)) return;
    entry_->own(layout_->bytes());
    layout_->until(entry_->memory())[row] = until;
    if (until < entry_->earliest_until) entry_->earliest_until = until;
  }

 private:
  const PageLayout* layout_;
  const PageEntry* entry_;
  std::size_t rows_;
  const KeyChannels* channels_;
};

/// One row, held: all that belongs to it can be read and, where a policy may, written. Rounded as the cache rounds:
/// what is read is what attention sees. Good until its lane gains or loses rows.
class Row {
 public:
  Row(const Page& page, std::size_t index) : page_(page), i_(index) { assert(index < page.rows()); }

  Position born() const { return page_.born()[i_]; }
  Position until() const { return page_.until()[i_]; }
  bool pinned() const { return page_.pinned(i_); }  // stays, whatever a policy does

  /// The row will not be seen from position `until` on; closing again can only bring that forward.
  void close(Position until) const {
    if (until < this->until()) page_.set_until(i_, until);
  }

  /// The row is seen up to `until` again.
  void reopen(Position until) const { page_.set_until(i_, until); }

  /// Key and value of one kv-head of the lane: [head_dim]. Channels of a key that are not stored are read as 0, which
  /// is what they are to attention, and what is written to them is lost.
  void key(std::size_t head, std::span<float> out) const {
    assert(head < shape().heads && out.size() == shape().head_dim);
    load_row(shape().keys, Side::keys, shape().key_dim, page_.k(head), i_, out.data());
    if (page_.channels() != nullptr) scatter(page_.channels()->of(head), out);
  }
  void value(std::size_t head, std::span<float> out) const {
    assert(head < shape().heads && out.size() == shape().head_dim);
    load_row(shape().values, Side::values, out.size(), page_.v(head), i_, out.data());
  }
  void set_key(std::size_t head, std::span<const float> numbers) const {
    assert(head < shape().heads && numbers.size() == shape().head_dim);
    const float* stored = numbers.data();
    float room[max_head_dim];
    if (page_.channels() != nullptr) {
      std::size_t n = 0;
      for (const std::uint16_t channel : page_.channels()->of(head)) room[n++] = numbers[channel];
      stored = room;
    }
    store_row(shape().keys, Side::keys, stored, shape().key_dim, page_.k(head), i_);
  }
  void set_value(std::size_t head, std::span<const float> numbers) const {
    assert(head < shape().heads && numbers.size() == shape().head_dim);
    store_row(shape().values, Side::values, numbers.data(), numbers.size(), page_.v(head), i_);
  }

  /// Key of the learned gate, where the lane has it: [gate_dim].
  void gate_key(std::span<float> out) const {
    assert(out.size() == shape().gate_dim);
    load_row(shape().gate_keys, Side::keys, out.size(), page_.gate(), i_, out.data());
  }
  void set_gate_key(std::span<const float> numbers) const {
    assert(numbers.size() == shape().gate_dim);
    store_row(shape().gate_keys, Side::keys, numbers.data(), numbers.size(), page_.gate(), i_);
  }

  float& evidence(Slot slot) const { return page_.evidence(slot)[i_]; }

 private:
  const PageLayout::Shape& shape() const { return page_.layout().shape(); }

  /// The first numbers go to their channels, 0 to the others. From the back: no channel lies before its number.
  static void scatter(std::span<const std::uint16_t> channels, std::span<float> numbers) {
    std::size_t left = channels.size();
    for (std::size_t to = numbers.size(); to-- > 0;)
      numbers[to] = left > 0 && channels[left - 1] == to ? numbers[--left] : 0.0f;
  }

  Page page_;
  std::size_t i_;
};

inline Row Page::row(std::size_t i) const { return {*this, i}; }

/// A policy gets lanes as const: it may read and write what rows carry, and close them. Rows come, go and are pinned
/// by the lane's owner alone.
class PITH_API Lane {
 public:
  /// Both outlive the lane. `expected_rows`: how many rows its page table makes room for at once.
  Lane(const PageLayout& layout, PagePool& pool, std::size_t expected_rows);
  ~Lane() { clear(); }
  Lane(Lane&& other) noexcept;
  Lane& operator=(Lane&&) = delete;

  std::size_t rows() const { return rows_; }
  std::size_t pages() const { return table_.size(); }
  std::size_t bytes() const { return (pages() + held_.size()) * layout_->bytes(); }
  Page page(std::size_t i) const {
    const std::size_t rows = i + 1 < table_.size() ? PageLayout::capacity : rows_ - i * PageLayout::capacity;
    return {*layout_, table_[i], rows, channels_.get()};
  }
  const PageLayout& layout() const { return *layout_; }
  const KeyChannels* channels() const { return channels_.get(); }  // null where keys are whole
  Slot slot(Column column) const { return layout_->slot(column); }

  Row row(std::size_t i) const { return page(i / PageLayout::capacity).row(i % PageLayout::capacity); }
  Position born(std::size_t i) const { return row(i).born(); }
  Position until(std::size_t i) const { return row(i).until(); }
  bool pinned(std::size_t i) const { return row(i).pinned(); }
  float& evidence(Slot slot, std::size_t i) const { return row(i).evidence(slot); }
  void close(std::size_t i, Position until) const { row(i).close(until); }

  /// What a policy remembers of the lane itself, beside its rows, under a name of its own: no numbers at first, then as
  /// many as the policy makes of them. It is copied, saved and freed with the lane. The reference is good until another
  /// name is first asked for.
  std::vector<float>& state(std::string_view name) const;
  std::size_t state_bytes() const;

  struct State {
    std::string name;
    std::vector<float> numbers = {};
  };
  std::span<const State> states() const { return states_; }

  /// A position before which no row of the page closes: known without a look at the page.
  Position earliest_until(std::size_t page) const { return table_[page].earliest_until; }

  /// Looks at the page's rows to know that position exactly.
  void find_earliest_until(std::size_t page) const;

  /// How many pages `count` more rows take from the pool.
  std::size_t pages_for(std::size_t count) const {
    return (rows_ + count + PageLayout::capacity - 1) / PageLayout::capacity - table_.size();
  }

  /// A new row seen from `born` to `until`, the last one; its evidence is 0, its key, value and gate key are the
  /// caller's to write. Throws as PagePool::take.
  Row append(Position born, Position until);

  /// Moves the last row, with all that belongs to it, into the place of `row`. An emptied page returns to the pool.
  void erase(std::size_t row);

  /// All pages can be written to; or the one of a row. Throws as PagePool::take.
  void own() const;
  void own(std::size_t row) const { table_[row / PageLayout::capacity].own(layout_->bytes()); }

  /// Bytes of pages that other lanes hold, too.
  std::size_t shared_bytes() const;

  /// The row stays, seen up to `until`, whatever is closed or evicted from now on.
  void pin(std::size_t row, Position until);
  void unpin(std::size_t row);

  void clear();

  /// Of keys that are whole, stores these channels alone from now on, in rows that are there and in those to come: so
  /// many of each head, [head][key_dim], ascending for each head, a multiple of block_values(). Page by page, so that
  /// no more is held than before. Not while emptied pages are held: it cannot be undone.
  void keep_channels(std::vector<std::uint16_t> kept);

  /// Emptied pages stay with the lane, so that insert() finds room for certain; or they return to the pool again.
  enum class Emptied { given, held };
  void keep_emptied(Emptied emptied);

  /// Row i of a page elsewhere, of the same layout, becomes a copy of `row`, and the other way round.
  void save(std::size_t row, std::byte* page, std::size_t i) const;
  void restore(std::size_t row, const std::byte* page, std::size_t i);

  /// Undoes erase(row): what is in its place moves back to the end, and a saved row takes it. Who is pinned is
  /// restore_columns' to say.
  void insert(std::size_t row, const std::byte* page, std::size_t i);

  /// All that rows carry beside keys and values, and the lane's states: appends it, and reads it again into as many
  /// rows in the same order; returns where it ends.
  void save_columns(std::vector<std::byte>& out) const;
  const std::byte* restore_columns(const std::byte* from);

  /// Makes this (empty) lane a copy of `other`, of the same pool, rows in the same order: they share its pages.
  void copy_from(const Lane& other);

 private:
  std::byte* take_page();

  const PageLayout* layout_;
  std::shared_ptr<const KeyChannels> channels_ = {};  // whose layout is then the lane's; copies share them
  PagePool* pool_;
  std::vector<PageEntry> table_;
  std::size_t rows_ = 0;
  Emptied emptied_ = Emptied::given;
  std::vector<std::byte*> held_ = {};  // emptied pages
  mutable std::vector<State> states_ = {};
};

}  // namespace pith::inline cache
