// SPDX-License-Identifier: MIT
// From tokens back to bytes. Every step works on one token alone, but for the start of a text, so that a text can be
// decoded as it grows.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/normalizer.hpp"
#include "text/pre_tokenizer.hpp"

namespace pith::text {

struct FromByteSymbols {};  // leaves alone a token that is not spelled in the byte-level alphabet
struct ByteFallback {};     // "<0x0A>" is that byte
struct UnmarkSpaces {       // SentencePiece's visible space is a space, and at the start of a text nothing
  std::string mark;
  MarkSpaces::Prefix prefix;
};
struct Trim {  // up to so many of a character
  std::string content;
  std::size_t start = 0, stop = 0;
};
struct JoinWithSpace {};  // tokens of a text are separate words

class Decoder {
 public:
  using Step = std::variant<Replace, FromByteSymbols, ByteFallback, UnmarkSpaces, Trim, JoinWithSpace>;

  void add(Step step);

  /// Trims the whole text instead of each token. Decoding token by token, only its start can be known.
  void trim_text(Trim trim) { text_trim_ = std::move(trim); }

  /// What a token contributes at the start of a text or further on.
  std::string operator()(std::string_view token, Place place) const;

 private:
  std::vector<Step> steps_;
  Trim text_trim_;
};

}  // namespace pith::text
