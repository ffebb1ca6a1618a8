// SPDX-License-Identifier: MIT
// The lanes of one sequence, by layer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "pith/cache/drop_log.hpp"
#include "pith/cache/lane.hpp"

namespace pith::inline cache {

/// One layer of a sequence's cache: what a policy works on. Rows leave only through evict and sweep, which log them.
class KvLayer {
 public:
  KvLayer(std::span<Lane> lanes, DropLog& log, std::span<const Position> kept, std::size_t layer,
          std::size_t first_lane)
      : lanes_(lanes), log_(&log), kept_(kept), layer_(layer), first_lane_(first_lane) {}

  std::span<Lane> lanes() const { return lanes_; }  // one for all kv-heads, or one for each
  std::size_t layer() const { return layer_; }

  /// The same layer, one lane of it.
  KvLayer lane(std::size_t i) const { return {lanes_.subspan(i, 1), *log_, kept_, layer_, first_lane_ + i}; }

  /// Has the caller asked for this token to be kept, whatever the policy?
  bool kept(Position born) const { return std::binary_search(kept_.begin(), kept_.end(), born); }

  /// Erases a row; `until` is the first position that does not see it.
  void evict(std::size_t lane, std::size_t row, Position until) const {
    const Lane& from = lanes_[lane];
    const float score =
        from.layout().shape().evidence.has(Evidence::gate_logit) ? from.evidence(Evidence::gate_logit, row) : 0.0f;
    log_->record({layer_, first_lane_ + lane, from.born(row), until, score});
    lanes_[lane].erase(row);
  }

  /// Erases the rows that no query at `next` or later can see.
  void sweep(Position next) const {
    for (std::size_t l = 0; l < lanes_.size(); ++l)
      for (std::size_t page = lanes_[l].pages(); page-- > 0;) {
        if (lanes_[l].earliest_until(page) > next) continue;
        // From the back: the row that fills a hole has been looked at.
        const std::span<const Position> until = lanes_[l].page(page).until();
        for (std::size_t i = until.size(); i-- > 0;)
          if (until[i] <= next) evict(l, page * PageLayout::capacity + i, until[i]);
        if (page < lanes_[l].pages()) lanes_[l].find_earliest_until(page);
      }
  }

  /// Opens again the rows to be kept; `window` is the architecture's own limit, 0 = none.
  void reopen_kept(int window) const {
    if (kept_.empty()) return;
    for (Lane& lane : lanes_)
      for (std::size_t row = 0; row < lane.rows(); ++row)
        if (const Position born = lane.born(row); kept(born)) lane.reopen(row, window > 0 ? born + window : never);
  }

 private:
  std::span<Lane> lanes_;
  DropLog* log_;
  std::span<const Position> kept_;  // ascending
  std::size_t layer_, first_lane_;
};

class KvCache {
 public:
  /// `layout` and `pool` outlive the cache.
  KvCache(const PageLayout& layout, PagePool& pool, std::size_t n_layers, std::size_t lanes_per_layer,
          std::size_t expected_rows, DropLog::Keep keep);

  KvLayer layer(std::size_t i) { return {std::span(lanes_).subspan(i * per_layer_, per_layer_), log_, kept_, i, 0}; }
  std::span<const Lane> lanes(std::size_t layer) const {
    return std::span(lanes_).subspan(layer * per_layer_, per_layer_);
  }
  std::size_t layers() const { return lanes_.size() / per_layer_; }
  std::size_t lanes_per_layer() const { return per_layer_; }
  DropLog& log() { return log_; }
  const DropLog& log() const { return log_; }

  /// These tokens stay from now on, whatever the policy.
  void keep(std::span<const Position> positions);

  std::size_t rows(std::size_t layer) const;               // live, over the layer's lanes
  std::size_t pages() const;                               // in use
  std::size_t pages_for(std::size_t rows_per_lane) const;  // that as many more rows in every lane would take

  /// Makes this (empty) cache a copy of `other`.
  void copy_from(const KvCache& other);

 private:
  std::size_t per_layer_;
  std::vector<Lane> lanes_;  // [layer][lane]
  DropLog log_;
  std::vector<Position> kept_;  // ascending
};

}  // namespace pith::inline cache
