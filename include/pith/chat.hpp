// SPDX-License-Identifier: MIT
// Talking with a model: messages in, answers out, in the form of its own chat template. Each message feeds only what is
// new, and the conversation may outgrow the context and any byte budget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "pith/api.hpp"
#include "pith/chat_template.hpp"
#include "pith/generator.hpp"

namespace pith {

/// What came of one message.
struct Answer {
  Generation generation;          // Finish::context: neither context nor budget had room for more of the answer
  std::size_t prompt_tokens = 0;  // read for it
  std::size_t readings = 0;       // how often the conversation was read from its beginning, or what is left of it
  // Of the conversation's sequence, at the answer's end:
  CacheStats stats;
  std::vector<std::vector<std::vector<std::int32_t>>> drop_at;  // as Session::drop_at, with record_drops
};

/// One conversation over a generator of its own. What the template writes before the first words of the user (a system
/// prompt) is pinned; the policy decides what is kept of the rest. The model goes on from what it has read and written:
/// where a template writes earlier turns otherwise later on (without their thinking, say), they stay as they were.
///
/// Where the context is full, or the byte budget in spite of the policy, the conversation is read again: the system
/// prompt, the latest messages, half as many tokens in all, and what there is of the answer. Not thread-safe.
class PITH_API Chat {
 public:
  /// `by`: the template; default: the tokenizer's own. `options`: what it is told. Throws as ChatTemplate, Tokenizer
  /// and Generator do.
  Chat(Model model, Tokenizer tokenizer, SessionOptions session = {}, std::optional<ChatTemplate> by = {},
       ChatOptions options = {});
  ~Chat();
  Chat(Chat&&) noexcept;
  Chat& operator=(Chat&&) noexcept;

  /// The answer to the user's next message. `how`: its max_tokens, stops, ends, sampler, tau and on_piece (whose pieces
  /// end without Piece::finish). `stop` ends the answer, which stays as far as it came.
  /// Throws what the template, submit() and the request's error throw; then the message is taken back.
  Answer say(std::string message, Request how = {}, std::stop_token stop = {});

  /// The system prompt; an empty text: none. The conversation is read again under it.
  void set_system(const std::string& text);
  std::string system() const;

  /// All messages, the system prompt first where there is one.
  const std::vector<Message>& messages() const;

  /// Goes on from these messages. Throws Error (argument) unless they are a system prompt, where there is one, and then
  /// messages of "user" and "assistant" in turn, the assistant's last.
  void restore(std::vector<Message> messages);

  /// The conversation with its rows, as Generator::save has it, and its messages: a chat of the same model, policy and
  /// formats goes on with it, and nothing is read again. Throws as that, and Error (state) where nothing is held of it:
  /// nothing was said, or what was said is to be read again.
  void save(const std::filesystem::path& file);

  /// Goes on with it. Throws as Session::restore, and Error (format) for a file that holds no chat; then nothing
  /// changes.
  void restore(const std::filesystem::path& file);

  /// Forgets all messages but the system prompt.
  void reset();

  /// How many messages after the system prompt the model was not given when it last read the conversation again.
  std::size_t left_out() const;

  /// Whether the template has been seen to write earlier turns otherwise than they were read.
  bool rewrites() const;

  const Session& session() const;

 private:
  struct PITH_LOCAL Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pith
