// SPDX-License-Identifier: MIT
#include "text/jinja/text.hpp"

#include <algorithm>

namespace pith::text::jinja {

Text::Text(std::string bytes, Origin origin) : bytes_(std::move(bytes)) {
  if (origin == Origin::of_data) mark({0, bytes_.size()});
}

void Text::mark(Range range) {
  if (range.size() == 0) return;
  if (!data_.empty() && data_.back().end == range.begin) {
    data_.back().end = range.end;
  } else {
    data_.push_back(range);
  }
}

void Text::append(std::string_view bytes, Origin origin) {
  const std::size_t begin = bytes_.size();
  bytes_ += bytes;
  if (origin == Origin::of_data) mark({begin, bytes_.size()});
}

void Text::append(const Text& other, Range part) {
  const std::size_t begin = bytes_.size();
  bytes_ += part.of(other.bytes_);
  auto range = std::lower_bound(other.data_.begin(), other.data_.end(), part.begin,
                                [](const Range& r, std::size_t at) { return r.end <= at; });
  for (; range != other.data_.end() && range->begin < part.end; ++range)
    mark(
        {begin + std::max(range->begin, part.begin) - part.begin, begin + std::min(range->end, part.end) - part.begin});
}

Text Text::slice(Range part) const {
  Text out;
  out.append(*this, part);
  return out;
}

}  // namespace pith::text::jinja
