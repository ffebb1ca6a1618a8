// SPDX-License-Identifier: MIT
#include "text/pre_tokenizer.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "text/byte_level.hpp"

namespace pith::text {

namespace {

/// A stretch of a word between two ends of matches.
struct Segment {
  Range range;
  bool delimits;
};

/// All of `size` bytes as matches and what lies between them; matches of no length cut and leave nothing else.
void segment(const std::vector<Range>& matches, std::size_t size, Matches role, std::vector<Segment>& out) {
  out.clear();
  const bool match_delimits = role == Matches::delimit;
  std::size_t done = 0;
  for (const Range match : matches) {
    if (match.begin > done) out.push_back({{done, match.begin}, !match_delimits});
    out.push_back({match, match_delimits});
    done = match.end;
  }
  if (done < size) out.push_back({{done, size}, !match_delimits});
}

/// A delimiter joins the segment before it, unless that is one too.
void merge_with_previous(std::vector<Segment>& segments) {
  std::size_t kept = 0;
  bool after_delimiter = false;
  for (const Segment& s : segments) {
    if (s.delimits && !after_delimiter && kept > 0) {
      segments[kept - 1].range.end = s.range.end;
    } else {
      segments[kept++] = s;
    }
    after_delimiter = s.delimits;
  }
  segments.resize(kept);
}

void merge_with_next(std::vector<Segment>& segments) {
  std::size_t kept = segments.size();
  bool before_delimiter = false;
  for (std::size_t i = segments.size(); i-- > 0;) {
    const Segment s = segments[i];
    if (s.delimits && !before_delimiter && kept < segments.size()) {
      segments[kept].range.begin = s.range.begin;
    } else {
      segments[--kept] = s;
    }
    before_delimiter = s.delimits;
  }
  segments.erase(segments.begin(), segments.begin() + static_cast<std::ptrdiff_t>(kept));
}

void merge_equals(std::vector<Segment>& segments) {
  std::size_t kept = 0;
  for (const Segment& s : segments) {
    if (kept > 0 && segments[kept - 1].delimits == s.delimits) {
      segments[kept - 1].range.end = s.range.end;
    } else {
      segments[kept++] = s;
    }
  }
  segments.resize(kept);
}

void arrange(std::vector<Segment>& segments, Behavior behavior) {
  switch (behavior) {
    case Behavior::removed:
      std::erase_if(segments, [](const Segment& s) { return s.delimits; });
      break;
    case Behavior::isolated:
      break;
    case Behavior::merged_with_previous:
      merge_with_previous(segments);
      break;
    case Behavior::merged_with_next:
      merge_with_next(segments);
      break;
    case Behavior::contiguous:
      merge_equals(segments);
      break;
  }
}

struct Apply {
  Words& words;
  Place place;

  void operator()(const Split& split) const {
    Finder finder(split.pattern);
    std::vector<Range> out;
    std::vector<Segment> segments;
    for (const Range word : words.words) {
      segment(finder.find_all(word.of(words.text)), word.size(), split.matches, segments);
      arrange(segments, split.behavior);
      for (const Segment& s : segments)
        if (s.range.size() > 0) out.push_back({word.begin + s.range.begin, word.begin + s.range.end});
    }
    words.words = std::move(out);
  }

  void operator()(PrefixSpace) const {
    if (place == Place::after_text) return;
    rewrite([](std::string_view word, std::string& out) {
      if (!word.starts_with(' ')) out += ' ';
      out += word;
    });
  }

  void operator()(ByteSymbols) const {
    rewrite([](std::string_view word, std::string& out) { out += to_byte_symbols(word); });
  }

  void operator()(const MarkSpaces& marks) const {
    auto here = place;
    rewrite([&](std::string_view word, std::string& out) {
      const bool prefixed = (marks.prefix == MarkSpaces::Prefix::always && here != Place::after_text) ||
                            (marks.prefix == MarkSpaces::Prefix::first && here == Place::start);
      if (prefixed && !word.starts_with(' ') && !word.starts_with(marks.mark)) out += marks.mark;
      for (const char c : word) {
        if (c == ' ') {
          out += marks.mark;
        } else {
          out += c;
        }
      }
      here = Place::inside;
    });
  }

 private:
  template <class Writer>
  void rewrite(Writer&& write) const {
    std::string out;
    out.reserve(words.text.size() + words.text.size() / 4 + words.words.size());
    for (Range& word : words.words) {
      const std::size_t begin = out.size();
      write(word.of(words.text), out);
      word = {begin, out.size()};
    }
    words.text = std::move(out);
  }
};

}  // namespace

void PreTokenizer::add(Step step) { steps_.push_back(std::move(step)); }

void PreTokenizer::append(const PreTokenizer& other) {
  steps_.insert(steps_.end(), other.steps_.begin(), other.steps_.end());
}

Words PreTokenizer::operator()(std::string text, Place place) const {
  Words words{std::move(text), {}};
  if (words.text.empty()) return words;
  words.words.push_back({0, words.text.size()});
  for (const Step& step : steps_) std::visit(Apply{words, place}, step);
  return words;
}

}  // namespace pith::text
