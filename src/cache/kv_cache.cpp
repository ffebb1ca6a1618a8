// SPDX-License-Identifier: MIT
#include "pith/cache/kv_cache.hpp"

namespace pith::inline cache {

KvCache::KvCache(const PageLayout& layout, PagePool& pool, std::size_t n_layers, std::size_t lanes_per_layer,
                 std::size_t expected_rows, DropLog::Keep keep)
    : per_layer_(lanes_per_layer), log_(keep, n_layers, lanes_per_layer) {
  lanes_.reserve(n_layers * lanes_per_layer);
  for (std::size_t i = 0; i < n_layers * lanes_per_layer; ++i) lanes_.emplace_back(layout, pool, expected_rows);
}

std::size_t KvCache::rows(std::size_t layer) const {
  std::size_t sum = 0;
  for (const Lane& lane : lanes(layer)) sum += lane.rows();
  return sum;
}

std::size_t KvCache::pages() const {
  std::size_t sum = 0;
  for (const Lane& lane : lanes_) sum += lane.pages();
  return sum;
}

std::size_t KvCache::pages_for(std::size_t rows_per_lane) const {
  std::size_t sum = 0;
  for (const Lane& lane : lanes_) sum += lane.pages_for(rows_per_lane);
  return sum;
}

void KvCache::copy_from(const KvCache& other) {
  for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i].copy_from(other.lanes_[i]);
  log_ = other.log_;
  kept_ = other.kept_;
}

void KvCache::keep(std::span<const Position> positions) {
  kept_.insert(kept_.end(), positions.begin(), positions.end());
  std::sort(kept_.begin(), kept_.end());
  kept_.erase(std::unique(kept_.begin(), kept_.end()), kept_.end());
}

}  // namespace pith::inline cache
