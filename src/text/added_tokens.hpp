// SPDX-License-Identifier: MIT
// Tokens that are found in a text as they are spelled, before anything cuts it into words.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pith/tokenizer.hpp"
#include "text/pattern.hpp"

namespace pith::text {

struct AddedToken {
  std::string content;
  Token id = 0;
  bool special = false;
  bool normalized = false;   // looked for in the normalized text, and itself normalized
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the whitespace on its left with it
  bool rstrip = false;
};

/// Part of a text: an added token, or what lies between two.
struct Part {
  Range range;
  std::optional<Token> token;
};

/// Finds the leftmost, there the longest, of many tokens.
class TokenFinder {
 public:
  /// `spelling`: what to look for.
  void add(const AddedToken& token, std::string_view spelling);

  /// Whether a token that is spelled in a range of the text is one there; empty: it always is.
  using Allows = std::function<bool(const AddedToken&, Range)>;

  /// All of the text in order; no part is empty.
  std::vector<Part> split(std::string_view text, const Allows& allows = {}) const;
  bool empty() const { return tokens_.empty(); }

 private:
  struct Match {
    std::size_t token;  // index in tokens_
    std::size_t bytes;
  };
  std::optional<Match> match_at(std::string_view text, std::size_t at, const Allows& allows) const;

  std::vector<AddedToken> tokens_;
  std::bitset<256> first_bytes_;
  std::unordered_map<std::uint64_t, std::uint32_t> edges_;  // of a trie: node << 8 | byte -> node
  std::vector<std::optional<std::size_t>> ends_{{}};        // of each node: the token it spells
};

}  // namespace pith::text
