// SPDX-License-Identifier: MIT
#include "session/sequences.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>

#include "pith/error.hpp"

namespace pith {

namespace {

/// A page begins with the positions of its rows.
const std::byte* address(const Page& page) { return reinterpret_cast<const std::byte*>(page.born().data()); }

}  // namespace

Sequence Sequences::make() {
  Sequence made{setup_.make_cache(pool)};
  made.tokens.reserve(setup_.expected_tokens());
  return made;
}

SequenceId Sequences::insert(Sequence&& sequence) {
  const SequenceId id{next_id_++};
  all.emplace(id, std::move(sequence));
  return id;
}

const Sequence& Sequences::find(SequenceId id) const {
  const auto found = all.find(id);
  if (found != all.end()) return found->second;
  const auto number = static_cast<std::uint32_t>(id);
  const bool was = number < next_id_;
  fail(was ? ErrorCode::state : ErrorCode::argument, "sequence", "one that was added and not finished",
       std::to_string(number) + (was ? ", which is finished" : ", which never was"));
}

SequenceId Sequences::fork(const Sequence& from) {
  Sequence copy = make();
  copy.copy_from(from);
  return insert(std::move(copy));
}

namespace {

/// Of the pages that take the next rows.
std::size_t shared_last_bytes(const KvCache& cache, const PagePool& pool) {
  std::size_t sum = 0;
  for (const auto lanes : {cache.every_lane(), cache.gate_lanes()})
    for (const Lane& lane : lanes)
      if (lane.rows() % PageLayout::capacity != 0 && pool.is_shared(address(lane.page(lane.pages() - 1))))
        sum += lane.layout().bytes();
  return sum;
}

}  // namespace

std::size_t Sequences::bytes_for(const Sequence& sequence, std::size_t tokens) const {
  const std::size_t fresh = sequence.cache.bytes_for(tokens);
  if (setup_.options.kv_budget == 0) return fresh;
  return fresh + (setup_.policy ? sequence.cache.shared_bytes() : shared_last_bytes(sequence.cache, pool));
}

void Sequences::require_room_to_change(const Sequence& sequence) const {
  if (pool.available() == SIZE_MAX) return;
  if (const std::size_t needed = sequence.cache.shared_bytes(); needed > pool.available())
    fail(ErrorCode::budget, "key-value cache", "pages for a copy of what the sequence shares, within the budget",
         std::to_string(pool.available()) + " bytes left of " + std::to_string(needed) + " needed");
}

bool Sequences::busy() const {
  return std::ranges::any_of(all, [](const auto& entry) { return !entry.second.stretches.empty(); });
}

namespace {

/// Of pages that several of them hold, but once.
std::size_t bytes_again(std::span<const Sequence* const> some) {
  std::unordered_set<const std::byte*> pages;
  std::size_t again = 0;
  for (const Sequence* sequence : some)
    for (const auto lanes : {sequence->cache.every_lane(), sequence->cache.gate_lanes()})
      for (const Lane& lane : lanes)
        for (std::size_t p = 0; p < lane.pages(); ++p)
          if (!pages.insert(address(lane.page(p))).second) again += lane.layout().bytes();
  return again;
}

}  // namespace

CacheStats Sequences::stats_of(std::span<const Sequence* const> some) const {
  CacheStats stats;
  stats.bytes_reserved = pool.bytes_reserved();
  stats.bytes_high_water = pool.bytes_high_water();
  stats.policy = setup_.policy.describe();
  stats.live_rows.resize(setup_.config.layers.size());
  for (const Sequence* sequence : some) {
    const auto length = static_cast<std::size_t>(sequence->length);
    stats.bytes_used += sequence->cache.bytes();
    stats.bytes_dense += sequence->cache.bytes_of(length);
    stats.bytes_state += sequence->cache.state_bytes();
    for (std::size_t l = 0; l < stats.live_rows.size(); ++l) stats.live_rows[l] += sequence->cache.rows(l);
    stats.seen_rows += sequence->cache.all_lanes() * length;
    stats.dropped_rows += sequence->cache.log().dropped();
  }
  if (some.size() == 1) {
    stats.bytes_shared = some.front()->cache.shared_bytes();
  } else {
    // Of all sequences the pool knows it.
    stats.bytes_shared = some.size() == all.size() ? stats.bytes_used - pool.bytes_used() : bytes_again(some);
    stats.bytes_used -= stats.bytes_shared;
  }
  return stats;
}

}  // namespace pith
