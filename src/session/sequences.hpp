// SPDX-License-Identifier: MIT
// The sequences of a session, by number, and the pages that they share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>

#include "pith/cache/page_pool.hpp"
#include "session/sequence.hpp"
#include "session/setup.hpp"

namespace pith {

class Sequences {
 public:
  explicit Sequences(const Setup& setup) : pool(setup.options.kv_budget), setup_(setup) {}

  Sequence make();
  SequenceId insert(Sequence&& sequence);
  void erase(SequenceId id) { all.erase(id); }

  /// Throws Error (argument) for one that never was, Error (state) for one that is finished.
  const Sequence& find(SequenceId id) const;
  Sequence& find(SequenceId id) { return const_cast<Sequence&>(std::as_const(*this).find(id)); }

  /// Another with the same past: they share its pages until they change them.
  SequenceId fork(const Sequence& from);

  /// What the pool must be able to give for a pass to take so many tokens of a sequence: pages that it shares are
  /// copied where the policy changes them, and where rows are added to them.
  std::size_t bytes_for(const Sequence& sequence, std::size_t tokens) const;

  /// Throws Error (budget) where there is no room to copy what it shares.
  void require_room_to_change(const Sequence& sequence) const;

  bool busy() const;  // some have tokens to be fed

  CacheStats stats_of(std::span<const Sequence* const> some) const;

  PagePool pool;
  std::map<SequenceId, Sequence> all = {};  // after the pool: their pages return to it

 private:
  const Setup& setup_;
  std::uint32_t next_id_ = 0;
};

}  // namespace pith
