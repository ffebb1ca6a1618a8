// SPDX-License-Identifier: MIT
#include "session/schedule.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "pith/error.hpp"

namespace pith {

void Schedule::plan(const Setup& setup, Sequences& sequences, std::size_t most) {
  try {
    fill(setup, sequences, most);
    if (setup.options.record_focus) seek_focus(setup);
  } catch (...) {
    clear();
    throw;
  }
}

void Schedule::fill(const Setup& setup, Sequences& sequences, std::size_t most) {
  std::size_t bytes = sequences.pool.available();
  const std::size_t chunk = static_cast<std::size_t>(setup.options.chunk);
  std::size_t room = std::max(chunk, std::min(most, static_cast<std::size_t>(setup.options.ahead)));
  const std::optional<Stage> stage = stage_in_turn(setup, sequences);
  std::vector<std::pair<SequenceId, std::size_t>> staged;  // and how many tokens
  waiting = 0;
  for (const bool prompts : {false, true}) {
    for (auto& [id, sequence] : sequences.all) {
      if (sequence.stretches.empty() || (sequence.stretches.front().kind == Stretch::Kind::prompt) != prompts) continue;
      const Stage own = sequence.next_stage(setup);
      if (!setup.whole(own) && (own.begin != stage->begin || own.end != stage->end)) continue;
      std::size_t count = sequence.next_chunks(setup, room), needed = sequences.bytes_for(sequence, count);
      if (count > chunk && needed > bytes) {
        count = sequence.next_chunk(setup);
        needed = sequences.bytes_for(sequence, count);
      }
      if (count == 0 || needed > bytes) {
        ++waiting;
        continue;
      }
      if (prompts) {
        if (count > room) continue;
        room -= count;
      }
      if (bytes != SIZE_MAX) bytes -= needed;
      if (setup.whole(own))
        add(setup, id, sequence, count);
      else
        staged.emplace_back(id, count);
      if (!prompts) room = chunk;  // who decodes waits for no more
    }
  }
  if (!staged.empty()) pass.stage = {pass.positions.size(), stage->begin, stage->end};
  for (const auto& [id, count] : staged) add(setup, id, sequences.find(id), count);
  if (pass.empty())
    fail(ErrorCode::budget, "key-value cache",
         "pages for one more token within " + std::to_string(setup.options.kv_budget) + " bytes",
         std::to_string(sequences.pool.bytes_used()) + " bytes in use");
}

/// The stage of its own that the next pass has room for: those who want one take turns.
std::optional<Stage> Schedule::stage_in_turn(const Setup& setup, const Sequences& sequences) {
  const auto& all = sequences.all;
  const auto wants = [&](const auto& entry) {
    return !entry.second.stretches.empty() && !setup.whole(entry.second.next_stage(setup));
  };
  auto found = std::find_if(all.upper_bound(last_staged_), all.end(), wants);
  if (found == all.end()) found = std::ranges::find_if(all, wants);
  if (found == all.end()) return {};
  last_staged_ = found->first;
  return found->second.next_stage(setup);
}

void Schedule::add(const Setup& setup, SequenceId id, Sequence& sequence, std::size_t count) {
  const Stretch& stretch = sequence.stretches.front();
  const bool prompt = stretch.kind == Stretch::Kind::prompt, goes_on = sequence.fed == stretch.end;
  if (prompt && (sequence.prompts.empty() || sequence.prompts.back().begin != stretch.begin))
    sequence.prompts.push_back({stretch.begin, stretch.end});
  Segment segment{.cache = &sequence.cache,
                  .scratch = &sequence.scratch,
                  .row = pass.positions.size(),
                  .count = count,
                  .first = sequence.fed,
                  .prompt_begin = sequence.prompt().begin,
                  .prompt_end = sequence.prompt().end,
                  .tau = sequence.tau,
                  .each = prompt ? static_cast<std::size_t>(setup.options.chunk) : 1};
  const std::size_t d = setup.d_model();
  const Halted& halted = sequence.halted;
  for (std::size_t i = 0; i < count; ++i) {
    pass.tokens.push_back(goes_on ? no_token : sequence.pending[i]);
    pass.positions.push_back(goes_on ? halted.positions[halted.done + i] : sequence.fed + static_cast<Position>(i));
  }
  if (goes_on) {
    segment.first = halted.positions[halted.done];
    segment.absent = pass.positions.back() + 1 - segment.first - static_cast<Position>(count);
    segment.stream = halted.rows_from(halted.done, count, d);
  } else if (!stretch.embeddings.empty()) {
    const auto from = static_cast<std::size_t>(sequence.fed - stretch.begin);
    segment.embeddings = {stretch.embeddings.data() + from * d, count, d};
  }
  const bool staged = segment.row >= pass.stage.row;
  if (prompt && staged && pass.stage.end < setup.config.layers.size() && segment.next() == stretch.end) {
    sequence.stay.assign(halted.positions.begin(), halted.positions.end());
    if (!goes_on)
      sequence.stay.insert(sequence.stay.end(), pass.positions.end() - static_cast<std::ptrdiff_t>(count),
                           pass.positions.end());
    segment.stay = &sequence.stay;
  }
  pass.segments.push_back(segment);
  owners.push_back(id);
}

void Schedule::seek_focus(const Setup& setup) {
  const std::size_t each = setup.config.layers.size() * static_cast<std::size_t>(setup.config.n_heads);
  focus.assign(pass.segments.size() * each, 0);
  for (std::size_t s = 0; s < pass.segments.size(); ++s)
    pass.segments[s].focus = std::span(focus).subspan(s * each, each);
}

void Schedule::leave_out(const Sequence& sequence) {
  for (Segment& segment : pass.segments)
    if (segment.cache == &sequence.cache) segment.cache = nullptr;
}

void Schedule::clear() noexcept {
  pass.clear();
  owners.clear();
}

bool Schedule::has(const Sequence& sequence) const {
  return std::ranges::any_of(pass.segments, [&](const Segment& s) { return s.cache == &sequence.cache; });
}

}  // namespace pith
