// SPDX-License-Identifier: MIT
// Guesses of a request's next tokens, and how they fare.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "ngrams.hpp"
#include "pith/generator.hpp"

namespace pith {

/// A token and guesses behind it, which a marked sequence was given together.
struct Draft {
  std::vector<Token> tokens = {};  // the one that was chosen, then guesses; none: no draft
  std::size_t most = 0;            // guesses
  std::size_t layers = 0;          // that guess; 0: the text did
  bool guessing = false;           // they still do
  std::size_t rows = 0;            // of its logits that were chosen from,
  std::size_t right = 0;           // and guesses that were so chosen
  bool settled = false;            // the rest of this pass's logits are of wrong guesses

  bool open() const { return !tokens.empty(); }

  /// What was guessed of the token that the latest row chooses.
  std::optional<Token> next() const { return rows < tokens.size() ? std::optional(tokens[rows]) : std::nullopt; }
};

/// Throws Error (argument) for more guesses than DraftOptions allows, or layers that are not some of the model's.
void check(const DraftOptions& options, const Config& config);

class Drafter {
 public:
  explicit Drafter(const DraftOptions& options) : options_(options), limit_(options.tokens) {}

  void accept(std::span<const Token> tokens) {
    if (options_.tokens > 0 && options_.layers == 0) text_.accept(tokens);
  }

  /// Behind `token`, the latest that was accepted, at most so many guesses. Not open where there are none.
  Draft begin(Token token, std::size_t most) const;

  /// Fewer guesses after wrong ones, more after right ones.
  void learn(const Draft& draft);

  const DraftCount& count() const { return count_; }

 private:
  DraftOptions options_;
  std::size_t limit_;  // guesses at a time, for now
  NGrams text_;
  DraftCount count_;
};

}  // namespace pith
