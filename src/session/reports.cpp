// SPDX-License-Identifier: MIT
#include "session/reports.hpp"

#include <algorithm>
#include <span>

namespace pith {

void Reports::add_drops(SequenceId id) {
  sequences_.find(id).cache.log().take_fresh([&](const Drop& drop) {
    if (setup_.options.on_drop) due_.push_back({Report::Kind::drop, id, drop});
  });
}

void Reports::add_pass(const Schedule& finished) {
  const bool on_pass = setup_.options.on_pass != nullptr, on_prefill = setup_.options.on_prefill != nullptr;
  for (std::size_t s = 0; s < finished.pass.segments.size(); ++s) {
    const Segment& segment = finished.pass.segments[s];
    const SequenceId id = finished.owners[s];
    if (segment.cache == nullptr) continue;
    if (on_pass) due_.push_back({Report::Kind::pass, id, {}, segment});
    if (on_prefill && segment.first < segment.prompt_end)
      due_.push_back({Report::Kind::prefill, id, {}, {}, progress(id, finished.pass, segment)});
  }
  if (on_pass) tokens_ = finished.pass.tokens;
}

/// Of the prompt that a segment is of: layers count, where it goes through them in stages.
Progress Reports::progress(SequenceId id, const Pass& pass, const Segment& segment) const {
  const auto total = static_cast<std::size_t>(segment.prompt_end - segment.prompt_begin);
  if (segment.row < pass.stage.row) return {id, static_cast<std::size_t>(segment.next() - segment.prompt_begin), total};
  const Sequence& sequence = sequences_.find(id);
  const Halted& halted = sequence.halted;
  if (halted.layer == 0) return {id, total, total};
  const std::size_t begin = pass.stage.begin, end = pass.stage.end, n = setup_.config.layers.size();
  const bool reading = begin == 0, over = reading ? sequence.fed == segment.prompt_end : halted.layer == end;
  if (over) return {id, total * end / n, total};
  const std::size_t done = reading ? halted.positions.size() : halted.done;
  const std::size_t all = reading ? total : halted.positions.size();
  return {id, total * (begin * all + (end - begin) * done) / (n * all), total};
}

void Reports::tell() {
  while (next_ < due_.size()) tell(due_[next_++]);
  due_.clear();
  next_ = 0;
}

void Reports::tell(const Report& report) {
  const Segment& segment = report.segment;
  switch (report.kind) {
    case Report::Kind::drop:
      return setup_.options.on_drop(report.sequence, report.drop);
    case Report::Kind::pass:
      live_rows_.clear();
      for (std::size_t l = 0; l < segment.cache->layers(); ++l) live_rows_.push_back(segment.cache->rows(l));
      // What goes on into a stage was fed before.
      if (segment.stream.rows > 0)
        return setup_.options.on_pass(
            {report.sequence, sequences_.find(report.sequence).fed, {}, segment.cache->bytes(), live_rows_});
      return setup_.options.on_pass({report.sequence, segment.first,
                                     std::span(tokens_).subspan(segment.row, segment.count), segment.cache->bytes(),
                                     live_rows_, segment.focus});
    case Report::Kind::prefill:
      return setup_.options.on_prefill(report.progress);
  }
}

void Reports::forget(SequenceId id) {
  const auto due = due_.begin() + static_cast<std::ptrdiff_t>(next_);
  due_.erase(std::remove_if(due, due_.end(), [&](const Report& r) { return r.sequence == id; }), due_.end());
}

}  // namespace pith
