// SPDX-License-Identifier: MIT
// The answer to one request in the OpenAI API's form, as a whole or as a stream of chunks.
#pragma once

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "pith/tokenizer.hpp"
#include "server/ask.hpp"
#include "server/mailbox.hpp"

namespace pith::tool {

/// The text of tokens one by one, special ones as they are spelled.
class TokenTexts {
 public:
  explicit TokenTexts(Tokenizer tokenizer) : tokenizer_(tokenizer), stream_(std::move(tokenizer)) {}
  bool is_special(Token token) const { return tokenizer_.is_special(token); }
  std::string next(Token token) {
    const Token one[] = {token};
    return is_special(token) ? tokenizer_.decode(one, Tokenizer::Show::with_specials) : stream_.push(token);
  }

 private:
  Tokenizer tokenizer_;
  TextStream stream_;
};

class Answer {
 public:
  /// Borrows both.
  Answer(const Ask& ask, const Words& words, std::string id);

  /// Returns what a stream says of the part; none: nothing that the client could see.
  std::optional<Json> add(const Part& part);
  bool ended() const { return left_ == 0; }

  /// What a stream says before a choice's first part: of a chat its role, and the prompt's tokens where drops were
  /// asked for.
  Json begin(std::size_t choice) const;
  /// The last chunk, where it was asked for.
  Json usage_chunk() const;
  Json whole() const;

  std::size_t prompt_tokens() const;
  std::size_t tokens() const;

 private:
  struct Choice {
    std::string text;
    std::size_t tokens = 0;
    std::size_t reused = 0;  // of its prompt, tokens that were not read
    std::size_t offset = 0;  // characters of text before the next token
    std::optional<Finish> finish = {};
    std::optional<Held> held = {};
    Json logprobs = nullptr;
    TokenTexts texts;
  };

  Json outer(const char* object) const;
  Json usage() const;
  Json chat_logprob(Token token, float logprob) const;
  Json logprobs_of(Choice& choice, const Part& part) const;
  Json extension(Choice& choice, const Part& part) const;

  const Ask& ask_;
  const Words& words_;
  const std::string id_;
  const std::time_t created_ = std::time(nullptr);
  std::vector<Choice> choices_;
  std::size_t left_;  // choices that have not ended
};

}  // namespace pith::tool
