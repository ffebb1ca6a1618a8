// SPDX-License-Identifier: MIT
// A sequence made shorter at the caller's word: to pins, or to what a model attends to that writes it again.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "pith/error.hpp"
#include "pith/prune/replay.hpp"
#include "session/impl.hpp"

namespace pith {

void Session::compress(SequenceId sequence, Position begin, Position end, std::span<const Position> pins) {
  Sequence& s = impl_->committed(sequence, "compress");
  if (begin < 0 || begin > end || end > static_cast<Position>(impl_->setup.context))
    fail(ErrorCode::argument, "compress",
         "a first token and an end behind it, up to the context of " + std::to_string(impl_->setup.context),
         "[" + std::to_string(begin) + ", " + std::to_string(end) + ")");
  for (const Position pin : pins)
    if (pin < begin || pin >= end)
      fail(ErrorCode::argument, "compress", "pins from " + std::to_string(begin) + " to " + std::to_string(end - 1),
           std::to_string(pin));
  impl_->sequences.require_room_to_change(s);
  Compression one{begin, end, {pins.begin(), pins.end()}};
  std::ranges::sort(one.pins);
  keep(sequence, one.pins);
  Impl::change(s, [&] { end <= s.length ? s.compress(one) : s.compressions.push_back(std::move(one)); });
}

namespace {

/// A copy of a sequence that is forgotten in the end.
class Copy {
 public:
  Copy(Sequences& sequences, const Sequence& from) : sequences_(sequences), id_(sequences.fork(from)) {}
  ~Copy() { sequences_.erase(id_); }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;

  Sequence& operator*() { return sequences_.find(id_); }

 private:
  Sequences& sequences_;
  SequenceId id_;
};

/// Feeds the sequence under another policy. Throws Error (argument, budget), SegmentError.
void read(Sequence& sequence, std::span<const Token> tokens, const prune::AnyPolicy& by, const Setup& setup,
          const Sequences& sequences, const Threads& threads) {
  sequence.append(setup, tokens, {.kind = Stretch::Kind::prompt, .logits = Logits::none});
  Workspace workspace(setup.config, setup.needs, setup.context);  // the session's may be in the middle of a step
  const auto read_chunk = [&] {
    const std::size_t count = sequence.next_chunk(setup);
    if (count == 0 || sequences.bytes_for(sequence, count) > sequences.pool.available())
      fail(ErrorCode::budget, "key-value cache", "pages to write a context again",
           std::to_string(sequences.pool.available()) + " bytes left");
    Pass part;
    part.segments.push_back({.cache = &sequence.cache,
                             .scratch = &sequence.scratch,
                             .count = count,
                             .first = sequence.length,
                             .prompt_begin = sequence.stretches.front().begin,
                             .prompt_end = sequence.stretches.front().end});
    for (std::size_t i = 0; i < count; ++i) {
      part.tokens.push_back(sequence.pending[i]);
      part.positions.push_back(sequence.length + static_cast<Position>(i));
    }
    forward(setup.config, setup.model.weights(), by, part, workspace, threads, {});
    setup.model.check_files();
    sequence.pending.erase(sequence.pending.begin(), sequence.pending.begin() + static_cast<std::ptrdiff_t>(count));
    sequence.fed = sequence.length += static_cast<Position>(count);
  };
  threads.gather([&] {
    while (!sequence.pending.empty()) read_chunk();
  });
}

}  // namespace

void Session::compress(SequenceId id, std::span<const Token> tokens, const Replay& how) {
  Impl& s = *impl_;
  Sequence& sequence = s.committed(id, "compress");
  const auto number = [](const char* what, float value, float least, const char* range) {
    if (!(value >= least)) fail(ErrorCode::argument, std::string("compress: ") + what, range, std::to_string(value));
  };
  number("share", how.share <= 1 ? how.share : -1, 0, "a number from 0 to 1");
  number("sinks", static_cast<float>(how.sinks), 0, "at least 0");
  number("chunk", static_cast<float>(how.chunk), 1, "at least 1");
  number("overlap", static_cast<float>(how.overlap), 0, "at least 0");
  sequence.require_rest("compress");
  if (static_cast<Position>(tokens.size()) != sequence.length)
    fail(ErrorCode::argument, "compress: tokens", "the sequence's " + std::to_string(sequence.length),
         std::to_string(tokens.size()));

  prune::ReplayWorth worth(sequence.cache.layers(), sequence.cache.lanes_per_layer(), tokens.size());
  const auto chunk = static_cast<std::size_t>(how.chunk);
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const std::size_t end = std::min(begin + chunk, tokens.size());
    std::vector<Token> replay = begin == 0 ? how.all : how.part;
    const auto add = [&](std::span<const Token> more) { replay.insert(replay.end(), more.begin(), more.end()); };
    if (begin > 0) {
      const std::size_t overlap = std::min(begin, static_cast<std::size_t>(how.overlap));
      add(tokens.subspan(begin - overlap, overlap));
    }
    add(how.answer);
    add(tokens.subspan(begin, end - begin));
    const prune::ObserveReplay observe{.sinks = how.sinks,
                                       .begin = static_cast<Position>(begin),
                                       .end = static_cast<Position>(end),
                                       .replay = sequence.length,
                                       .worth = &worth};
    Copy copy(s.sequences, sequence);
    (*copy).compressions.clear();
    try {
      read(*copy, replay, observe, s.setup, s.sequences, s.threads);
    } catch (const SegmentError& error) {
      throw SequenceError(error.code(), error.what(), id);
    }
  }
  std::vector<bool> judged;
  for (const LayerPlan& plan : s.setup.config.layers) judged.push_back(plan.window == 0);
  s.sequences.require_room_to_change(sequence);
  Impl::change(sequence, [&] { worth.evict(sequence.cache, judged, how.share, how.sinks, sequence.length); });
}

}  // namespace pith
