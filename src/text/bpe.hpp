// SPDX-License-Identifier: MIT
// Byte-pair encoding by a list of merges: GPT-2's kind, and the one into which SentencePiece models are converted.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pith/tokenizer.hpp"
#include "text/merge.hpp"
#include "text/vocabulary.hpp"

namespace pith::text {

/// The tokens "<0x00>" to "<0xFF>", where a vocabulary has them.
std::array<std::optional<Token>, 256> byte_tokens(const Vocabulary& vocabulary);

class Bpe {
 public:
  struct Options {
    std::optional<Token> unknown;       // for a character that is no token; without it, such characters vanish
    bool fuse_unknown = false;          // neighbouring ones become a single token
    bool byte_fallback = false;         // a character that is no token becomes the tokens of its bytes
    bool ignore_merges = false;         // a word that is a token is that token, whatever the merges say
    std::string word_part_prefix = {};  // spells that a character is not the first of its word
    std::string word_end_suffix = {};   // spells that it is the last
  };
  using Pair = std::pair<std::string, std::string>;

  /// `merges` in order of rank. Throws Error (format) where one names or makes a token that is not there.
  Bpe(const Vocabulary& vocabulary, const std::vector<Pair>& merges, Options options, std::string_view where);

  const Options& options() const { return options_; }

  struct Ranked {
    Token left, right, merged;
  };
  std::vector<Ranked> merges() const;  // the first to be done first

  /// Appends the tokens of a word.
  void encode(const Vocabulary& vocabulary, std::string_view word, Merger& merger, std::vector<Token>& out) const;

 private:
  struct PairHash {
    std::size_t operator()(std::uint64_t pair) const {
      pair *= 0x9e3779b97f4a7c15u;
      return static_cast<std::size_t>(pair ^ pair >> 32);
    }
  };
  static std::uint64_t key(Token left, Token right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  void add_character(const Vocabulary& vocabulary, std::string_view spelling, std::uint32_t begin, std::uint32_t bytes,
                     std::vector<Symbol>& out) const;

  Options options_;
  std::unordered_map<std::uint64_t, Merge, PairHash> merges_;
  std::array<std::optional<Token>, 256> bytes_{};
};

}  // namespace pith::text
