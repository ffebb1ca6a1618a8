// SPDX-License-Identifier: MIT
// What a Tokenizer holds: a definition, and what follows from it.
#pragma once

#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "pith/tokenizer.hpp"
#include "text/definition.hpp"
#include "text/patterns.hpp"

namespace pith {

struct Tokenizer::Impl {
  /// `from`: where a chat template may be, too.
  Impl(text::Definition definition, std::filesystem::path from);

  /// Appends what a token contributes to a text, special or not. `place` is that of the token, then of the next one.
  void append_bytes(Token token, text::Place& place, std::string& out) const;

  struct Finders {
    text::TokenFinder raw, normalized;  // of tokens to find in the text as given, and as normalized
  };

  const ChatTemplate& chat_template() const;  // loaded when it is first asked for

  text::Definition definition;
  Finders all_tokens, no_specials;
  std::unordered_map<Token, std::size_t> added;  // where in definition.added
  std::vector<std::string> pieces;               // of each id: its bytes in the middle of a text

 private:
  bool cuts_before_spaces() const;

  std::filesystem::path path_;
  mutable std::once_flag chat_template_once_;
  mutable std::optional<ChatTemplate> chat_template_;
};

}  // namespace pith
