// SPDX-License-Identifier: MIT
// The pass in work: which tokens of which sequences go through which layers next.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "pith/nn/pass.hpp"
#include "session/sequences.hpp"
#include "session/setup.hpp"

namespace pith {

struct Schedule {
  /// Chooses the next pass: every sequence that decodes, then prompts: at most a chunk of their tokens together, or,
  /// where nothing decodes, as SessionOptions::ahead and `most` allow. Those that the budget has no pages for wait.
  /// Rows that go through some layers alone come last. Throws Error (budget) where there is room for none.
  void plan(const Setup& setup, Sequences& sequences, std::size_t most);

  /// The pass, which is suspended, goes on without the sequence.
  void leave_out(const Sequence& sequence);

  void clear() noexcept;  // the pass is done with

  bool has(const Sequence& sequence) const;

  Pass pass = {};
  std::vector<SequenceId> owners = {};  // of the pass's segments
  std::vector<Position> focus = {};     // [segment * layer * head], with record_focus
  std::size_t waiting = 0;              // sequences that the pass has no pages for

 private:
  void fill(const Setup& setup, Sequences& sequences, std::size_t most);
  std::optional<Stage> stage_in_turn(const Setup& setup, const Sequences& sequences);
  void add(const Setup& setup, SequenceId id, Sequence& sequence, std::size_t count);
  void seek_focus(const Setup& setup);

  SequenceId last_staged_ = {};  // the latest that had a stage of its own
};

}  // namespace pith
