// SPDX-License-Identifier: MIT
// SentencePiece's byte-pair encoding (Kudo and Richardson 2018): neighbours merge where the vocabulary has what they
// spell together, the best score first. What ends as no token becomes the tokens of its bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "pith/tokenizer.hpp"
#include "text/merge.hpp"
#include "text/vocabulary.hpp"

namespace pith::text {

class Spm {
 public:
  /// Of each id: its score, or nothing where it is not made by merging (a control or byte token). Throws Error (format)
  /// where a score is not a number.
  Spm(const Vocabulary& vocabulary, const std::vector<std::optional<double>>& scores, std::optional<Token> unknown,
      std::string_view where);

  /// Appends the tokens of a word.
  void encode(const Vocabulary& vocabulary, std::string_view word, Merger& merger, std::vector<Token>& out) const;

  /// What orders merges, the greatest first; nothing for a token that is not made by merging.
  std::optional<float> score(Token id) const {
    const std::uint32_t rank = ranks_[static_cast<std::size_t>(id)];
    return rank == not_merged ? std::nullopt : std::optional(-static_cast<float>(rank));
  }
  std::optional<Token> unknown() const { return unknown_; }

 private:
  static constexpr std::uint32_t not_merged = 0xffffffff;

  std::optional<Merge> find(const Vocabulary& vocabulary, std::string_view spelling) const;

  std::vector<std::uint32_t> ranks_;  // of each id, by falling score; equal scores share one
  std::optional<Token> unknown_;
  std::array<std::optional<Token>, 256> bytes_{};
};

}  // namespace pith::text
