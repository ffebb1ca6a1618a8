// SPDX-License-Identifier: MIT
// The lanes of one sequence, by layer.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pith/api.hpp"
#include "pith/cache/drop_log.hpp"
#include "pith/cache/journal.hpp"
#include "pith/cache/lane.hpp"

namespace pith::inline cache {

/// How the rows of a sequence lie.
struct KvLayouts {
  PageLayout kv;
  /// Where kv-heads have lanes of their own, the keys of a gate that is the whole layer's have one beside them.
  std::optional<PageLayout> gate = {};
};

namespace column {
/// Of a row of gate keys alone: how many of the layer's lanes still hold its token.
inline constexpr Column holders{"holders"};
}  // namespace column

/// What the layers of a sequence write down together; one layer works at a time.
struct KvLedger {
  DropLog log;
  Slot gate_logit;                            // of the lanes, where they have it
  std::vector<std::vector<Position>> gone;    // [layer] tokens that its lanes have lost, where gates are apart
  std::vector<std::uint32_t> gate_rows = {};  // [position] row of the present layer's gate lane
  std::vector<Journal> journals = {};         // [layer] of what can be undone,
  bool marked = false;                        // if anything can
  Position end = 0;                           // one past the latest token that some layer holds,
  Position settled = 0;                       // and as it was when rows were last changed or gone

  void change() { settled = std::max(settled, end); }

  Journal* journal(std::size_t layer) { return marked ? &journals[layer] : nullptr; }
};

/// Lanes of a layer, in the order of their kv-heads: all, or those that are chosen.
template <class L>
class LaneList {
 public:
  /// `chosen`: their numbers, ascending; none = all.
  LaneList(std::span<L> all, std::span<const std::size_t> chosen) : all_(all), chosen_(chosen) {}

  std::size_t size() const { return chosen_.empty() ? all_.size() : chosen_.size(); }
  std::size_t number(std::size_t i) const { return chosen_.empty() ? i : chosen_[i]; }
  L& operator[](std::size_t i) const { return all_[number(i)]; }

  class Iterator {
   public:
    Iterator(const LaneList& list, std::size_t i) : list_(&list), i_(i) {}
    L& operator*() const { return (*list_)[i_]; }
    Iterator& operator++() {
      ++i_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return i_ == other.i_; }

   private:
    const LaneList* list_;
    std::size_t i_;
  };
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, size()}; }

 private:
  std::span<L> all_;
  std::span<const std::size_t> chosen_;
};

/// One layer of a sequence's cache, or some lanes of it: what a policy works on. Rows leave through evict and
/// KvCache::sweep, which log them.
class PITH_API KvLayer {
 public:
  /// `gate`: the lane of gate keys, where there is one.
  KvLayer(std::span<Lane> lanes, Lane* gate, KvLedger& ledger, std::size_t layer)
      : lanes_(lanes), gate_(gate), ledger_(&ledger), layer_(layer) {}

  LaneList<const Lane> lanes() const { return {lanes_, chosen_}; }  // one for all kv-heads, or one for each
  std::size_t layer() const { return layer_; }  // of layers that share lanes, the one that fills them

  /// The same layer, these lanes of it alone: ascending and at least one, of lanes().number(i). The list is to outlive
  /// what is returned.
  KvLayer only(std::span<const std::size_t> numbers) const {
    assert(!numbers.empty());
    KvLayer some = *this;
    some.chosen_ = numbers;
    return some;
  }

  /// Whether the gate's keys lie in a lane of their own, gate(), rather than in the lanes whose rows they close.
  bool gate_is_apart() const { return gate_ != nullptr; }
  const Lane& gate() const {
    assert(gate_is_apart());
    return *gate_;
  }

  /// Where the gate is apart: [position] = the row of gate() of every token that some lane holds.
  std::span<const std::uint32_t> gate_rows() const;

  /// Erases a row of lanes()[lane]; `until` is the first position that does not see it. False: it is pinned, and stays.
  bool evict(std::size_t lane, std::size_t row, Position until) const {
    if (lanes()[lane].pinned(row)) return false;
    erase(lane, row, until);
    return true;
  }

  /// Lane::keep_channels of lanes()[lane]. False: the sequence may go back, and all stays as it is.
  bool keep_channels(std::size_t lane, std::vector<std::uint16_t> kept) const {
    if (ledger_->journal(layer_) != nullptr) return false;
    ledger_->change();
    lanes_[lanes().number(lane)].keep_channels(std::move(kept));
    return true;
  }

  /// A row of lanes()[lane], for its key or value to be written: where the sequence may go back, what they were is
  /// remembered.
  Row changing(std::size_t lane, std::size_t row) const;

 private:
  friend class KvCache;
  void sweep(Position next) const;
  void erase(std::size_t lane, std::size_t row, Position until) const;

  std::span<Lane> lanes_;
  std::span<const std::size_t> chosen_ = {};
  Lane* gate_;
  KvLedger* ledger_;
  std::size_t layer_;
};

class PITH_API KvCache {
 public:
  /// `layouts` and `pool` outlive the cache.
  KvCache(const KvLayouts& layouts, PagePool& pool, std::size_t n_layers, std::size_t lanes_per_layer,
          std::size_t expected_rows, DropLog::Keep keep);

  /// The same of layers of which some share lanes: owners[layer] is the one that fills those that it reads, itself or
  /// one before it.
  KvCache(const KvLayouts& layouts, PagePool& pool, std::vector<std::size_t> owners, std::size_t lanes_per_layer,
          std::size_t expected_rows, DropLog::Keep keep);

  KvLayer layer(std::size_t i) { return {lanes(i), gates_.empty() ? nullptr : &gates_[place(i)], ledger_, owner(i)}; }
  std::span<Lane> lanes(std::size_t layer) { return std::span(lanes_).subspan(place(layer) * per_layer_, per_layer_); }
  std::span<const Lane> lanes(std::size_t layer) const {
    return std::span(lanes_).subspan(place(layer) * per_layer_, per_layer_);
  }
  std::size_t layers() const { return owners_.size(); }
  std::size_t owner(std::size_t layer) const { return owners_[layer]; }  // whose lanes it reads
  /// Of all layers, shared ones once: their lanes, one layer after the other, and their gate lanes, where there are
  /// some.
  std::span<Lane> every_lane() { return lanes_; }
  std::span<const Lane> every_lane() const { return lanes_; }
  std::span<Lane> gate_lanes() { return gates_; }
  std::span<const Lane> gate_lanes() const { return gates_; }
  std::size_t lanes_per_layer() const { return per_layer_; }
  std::size_t all_lanes() const { return lanes_.size(); }  // of all layers, shared ones once
  DropLog& log() { return ledger_.log; }
  const DropLog& log() const { return ledger_.log; }

  /// A row for a new token in each lane of a layer, and in its gate lane: the last of each; see Lane::append.
  void append(std::size_t layer, Position born, Position until);

  /// Erases the layer's rows that no query at `next` or later can see, and gate keys of tokens that no lane holds any
  /// more.
  void sweep(std::size_t layer, Position next) { this->layer(layer).sweep(next); }

  /// These tokens stay in the layer from now on, where they are still there, whatever a policy does;
  /// `window` is the architecture's own limit, which they keep to, 0 = none.
  void keep(std::size_t layer, std::span<const Position> positions, int window);

  /// The same for tokens that are to come, in every layer.
  void keep_ahead(std::span<const Position> positions);
  std::span<const Position> kept_ahead() const { return kept_ahead_; }

  /// These tokens leave the layer, kept or not: the query at `next` is the first not to see them.
  void forget(std::size_t layer, std::span<const Position> positions, Position next);

  std::size_t rows(std::size_t layer) const;               // live, over the layer's lanes
  std::size_t bytes() const;                               // of pages in use,
  std::size_t shared_bytes() const;                        // and of those that others hold, too
  std::size_t state_bytes() const;                         // of what policies remember beside rows
  std::size_t bytes_for(std::size_t rows_per_lane) const;  // that as many more rows in every lane would take
  std::size_t bytes_of(std::size_t rows_per_lane) const;   // that as many rows in every lane take

  /// From now on what happens to rows can be undone: from mark() to commit(), emptied pages stay with the cache.
  void mark();
  void commit();

  /// The length from which on tokens can be taken back without a mark, and rows are then bitwise, and in the order,
  /// what they were: none has been dropped since, or changed. What columns and states say of tokens cannot be taken
  /// back.
  Position settled() const;

  /// What settled() is of, to be saved, and as it was saved.
  Position end() const { return ledger_.end; }
  Position last_change() const { return ledger_.settled; }
  void resume(Position end, Position last_change) {
    ledger_.end = end;
    ledger_.settled = last_change;
  }

  /// The tokens from `length` on, which is settled(), are gone.
  void take_back(Position length);

  /// A step of a layer begins, which feeds it tokens from `position` on.
  void begin_step(std::size_t layer, Position position);

  /// Since mark(): undoes the steps at `length` and later, in every layer. Rows, and all that they carry, are bitwise
  /// what they were, in the same order.
  void rewind(Position length);

  /// These tokens, ascending, never come to the layer: on record as dropped before any saw them.
  void pass_over(std::size_t layer, std::span<const Position> positions);

  /// Makes this (empty) cache a copy of `other`, without its mark: they share pages.
  void copy_from(const KvCache& other);

 private:
  std::size_t place(std::size_t layer) const { return places_[owners_[layer]]; }

  const KvLayouts* layouts_;
  std::vector<std::size_t> owners_, places_;  // [layer] whose lanes it reads; where its own are, if it has some
  std::size_t per_layer_;
  std::vector<Lane> lanes_;                // [place][lane]
  std::vector<Lane> gates_;                // [place], where gate keys have lanes of their own
  std::vector<Position> kept_ahead_ = {};  // ascending
  KvLedger ledger_;
};

}  // namespace pith::inline cache
