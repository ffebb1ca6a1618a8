// SPDX-License-Identifier: MIT
// Guesses of how a text goes on, from what was in it before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "pith/tokenizer.hpp"

namespace pith {

/// The longer of two continuations: what followed the latest earlier place with the same last three tokens, or else
/// two; and the chain of tokens that most often followed the two before (ADED, Liu et al., arXiv 2407.12021, without
/// its tree, and from the text alone).
class NGrams {
 public:
  void accept(std::span<const Token> tokens);

  /// At most so many tokens; none where nothing like the text's end was there before.
  std::vector<Token> continuation(std::size_t most) const;

 private:
  /// What followed two tokens, and how often.
  struct Follower {
    Token token;
    std::uint32_t count;
    std::size_t latest;  // its position
  };
  static constexpr std::size_t most_followers = 12;  // of two tokens; the rarest, then the oldest, is forgotten

  std::span<const Token> copy(std::size_t most) const;
  std::vector<Token> chain(std::size_t most) const;

  std::vector<Token> text_;
  std::unordered_map<std::uint64_t, std::vector<Follower>> followers_;  // of two tokens
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> places_;  // behind two tokens, ascending
};

}  // namespace pith
