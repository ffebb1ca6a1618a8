// SPDX-License-Identifier: MIT
// Text to token ids and back, as the model's own tokenizer file defines it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pith/api.hpp"
#include "pith/chat_template.hpp"

namespace pith {

using Token = std::int32_t;

/// Which special tokens encode() adds, and whether it recognises those that are written in the text. A user's text may
/// hold anything: only who writes the template himself wants "<|im_end|>" in it to be the token.
enum class Specials {
  add_only,    // the file's post-processor adds its own (a BOS, say); what looks like a special token stays text
  as_trained,  // the same are added; special tokens in the text are recognised
  parse_only,  // none are added; those written in the text are recognised
  plain,       // none are added; what looks like a special token stays text
};

struct TokenizerOptions {
  /// How a GGUF's byte-level tokenizer cuts a text into words, as in its key tokenizer.ggml.pre, which this replaces:
  /// "llama-bpe", "qwen2", "gpt-2" …; empty = what the file says.
  std::string pre = {};
};

/// An immutable tokenizer; copies share it, and any number of threads may use it.
/// Models may have more ids than their tokenizer, for the sake of round numbers: those stand for no text, are not
/// special and end nothing. Only a negative id is none: Error (argument).
class PITH_API Tokenizer {
 public:
  /// Loads from a Hugging Face directory (tokenizer.json, else vocab.json + merges.txt, else tokenizer.model), from one
  /// of these files, or from a .gguf file. Throws Error (file, format, unsupported), and Error (argument) for options
  /// that mean nothing there.
  static Tokenizer load(const std::filesystem::path& path, const TokenizerOptions& options = {});

  /// Invalid UTF-8 is replaced by U+FFFD, one per maximal ill-formed subsequence.
  std::vector<Token> encode(std::string_view text, Specials specials = Specials::add_only) const;

  /// A conversation by the model's own chat template, which is looked for where this tokenizer was loaded from. What
  /// the messages bring is text: it never becomes a special token, nor any other token that the template itself spells.
  /// Adds nothing that the template does not write. Throws Error as ChatTemplate does.
  std::vector<Token> chat(const std::vector<Message>& messages, const ChatOptions& options = {}) const;
  std::vector<Token> chat_json(std::string_view messages_json, const ChatOptions& options = {}) const;

  /// The same for another template, and what it has rendered.
  std::vector<Token> encode(const ChatText& chat, const ChatTemplate& by) const;

  /// The model's own. Throws Error (file, format) where there is none.
  const ChatTemplate& chat_template() const;

  /// Text of a whole sequence; special tokens are left out unless `with_specials`. Bytes that are not UTF-8 come out as
  /// U+FFFD.
  enum class Show { text_only, with_specials };
  std::string decode(std::span<const Token> tokens, Show show = Show::text_only) const;

  /// The bytes that one token contributes in the middle of a text (possibly part of a UTF-8 character; empty for a
  /// special token). Valid as long as the tokenizer lives.
  std::string_view piece(Token token) const;

  /// What its file left open or says in two ways, and what was made of it, in words.
  const std::vector<std::string>& notes() const;

  int vocab_size() const;
  std::optional<Token> bos() const;
  bool is_end(Token token) const;  // an end-of-sequence (or end-of-turn) token
  bool is_special(Token token) const;
  std::optional<Token> id(std::string_view token) const;  // of a token as spelled in the vocabulary

  struct PITH_LOCAL Impl;

 private:
  friend class TextStream;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Turns a stream of tokens into text that never ends inside a UTF-8 character.
class PITH_API TextStream {
 public:
  explicit TextStream(Tokenizer tokenizer);

  /// The text that is now complete; what may still grow into a character is held back.
  std::string push(Token token);

  /// What was held back, with U+FFFD for unfinished characters; the stream starts afresh.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  std::string pending_;   // bytes held back
  bool at_start_ = true;  // SentencePiece drops the space before the first word
};

}  // namespace pith
