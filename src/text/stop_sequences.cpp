// SPDX-License-Identifier: MIT
#include "pith/stop_sequences.hpp"

#include <algorithm>
#include <utility>

#include "pith/error.hpp"

namespace pith {

StopSequences::StopSequences(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) require(!stop.empty(), ErrorCode::argument, "stop: expected text, found none");
}

std::string StopSequences::push(std::string_view text) {
  if (stopped_) return {};
  pending_ += text;
  std::size_t begin = std::string::npos, end = std::string::npos;  // of the stop text found, in pending_
  for (std::size_t i = 0; i < stops_.size(); ++i) {
    const std::size_t at = pending_.find(stops_[i]);
    if (at == std::string::npos) continue;
    if (const std::size_t past = at + stops_[i].size(); past < end || (past == end && at < begin)) {
      begin = at;
      end = past;
      stopped_ = i;
    }
  }
  std::string certain = pending_.substr(0, stopped_ ? begin : pending_.size() - undecided());
  pending_.erase(0, stopped_ ? std::string::npos : certain.size());
  return certain;
}

std::string StopSequences::flush() { return std::exchange(pending_, {}); }

/// Length of the longest end of pending_ that is the start of a stop text.
std::size_t StopSequences::undecided() const {
  std::size_t longest = 0;
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(stop.size() - 1, pending_.size()); n > longest; --n)
      if (pending_.ends_with(std::string_view(stop).substr(0, n))) longest = n;
  return longest;
}

}  // namespace pith
