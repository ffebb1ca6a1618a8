// SPDX-License-Identifier: MIT
// Cutting a normalized text into the words within which the model may merge.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.hpp"

namespace pith::text {

/// A text and the words in it, in order.
struct Words {
  std::string text;
  std::vector<Range> words;
};

/// What becomes of a match and of what lies between two.
enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
enum class Matches { delimit, are_words };  // are_words: the roles of matches and of what lies between are exchanged

struct Split {
  Pattern pattern;
  Behavior behavior = Behavior::isolated;
  Matches matches = Matches::delimit;
};

/// A space before each word that has none.
struct PrefixSpace {};

/// Every byte becomes its character of the byte-level alphabet.
struct ByteSymbols {};

/// SentencePiece's visible space.
struct MarkSpaces {
  enum class Prefix { always, first, never };
  std::string mark = "\xe2\x96\x81";  // U+2581
  Prefix prefix = Prefix::always;
};

class PreTokenizer {
 public:
  using Step = std::variant<Split, PrefixSpace, ByteSymbols, MarkSpaces>;

  void add(Step step);
  void append(const PreTokenizer& other);
  bool empty() const { return steps_.empty(); }

  Words operator()(std::string text, Place place) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace pith::text
