// SPDX-License-Identifier: MIT
// What a Tokenizer holds: a definition, and what follows from it.
#pragma once

#include <string>
#include <vector>

#include "pith/tokenizer.hpp"
#include "text/definition.hpp"
#include "text/patterns.hpp"

namespace pith {

struct Tokenizer::Impl {
  explicit Impl(text::Definition from);

  /// Appends what a token contributes to a text, special or not. `place` is that of the token, then of the next one.
  void append_bytes(Token token, text::Place& place, std::string& out) const;

  struct Finders {
    text::TokenFinder raw, normalized;  // of tokens to find in the text as given, and as normalized
  };

  text::Definition definition;
  Finders all_tokens, no_specials;
  std::vector<std::string> pieces;  // of each id: its bytes in the middle of a text

 private:
  bool cuts_before_spaces() const;
};

}  // namespace pith
