// SPDX-License-Identifier: MIT
#include "session/sequences.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "pith/error.hpp"

namespace pith {

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
  if (from.cache.bytes() > pool.available())
    fail(ErrorCode::budget, "key-value cache", "pages for a copy of the sequence within the budget",
         std::to_string(pool.available()) + " bytes left of " + std::to_string(from.cache.bytes()) + " needed");
  Sequence copy = make();
  copy.copy_from(from);
  return insert(std::move(copy));
}

bool Sequences::busy() const {
  return std::ranges::any_of(all, [](const auto& entry) { return !entry.second.stretches.empty(); });
}

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
  return stats;
}

}  // namespace pith
