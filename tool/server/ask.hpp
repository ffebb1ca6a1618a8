// SPDX-License-Identifier: MIT
// What a client asks for: JSON as the OpenAI API has it, checked field by field.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pith/chat_template.hpp"
#include "pith/generator.hpp"
#include "pith/tokenizer.hpp"
#include "server/refusal.hpp"

namespace pith::tool {

enum class Form { chat, completion };

/// What prompts are made with.
struct Words {
  std::string model;  // as clients call it
  Tokenizer tokenizer;
  std::optional<ChatTemplate> by = {};
  ChatOptions options = {};
};

struct AskLimits {
  std::size_t tokens = SIZE_MAX;  // that one request may have generated
  std::size_t answers = 16;       // to one request
  float least_tau = 0, most_tau = 10;
};

struct Ask {
  Form form = Form::chat;
  std::vector<std::vector<Token>> prompts;
  std::size_t n = 1;  // answers to each
  Request how;        // all but prompt and callbacks; its seed is the first answer's
  bool ignores_end = false;
  bool streams = false, wants_usage = false;
  std::string policy;  // empty: the first one
  bool wants_drops = false;
  bool wants_held = false;  // what the sequence held at its end

  std::size_t answers() const { return prompts.size() * n; }
};

/// Throws Refusal, and Error as the chat template and the tokenizer do.
Ask read_ask(std::string_view body, Form form, const Words& words, const AskLimits& limits);

/// POST /tokenize: {"content": TEXT, "add_special": BOOL} or {"messages": [...]}; the answer. Throws as read_ask().
Json tokenized(std::string_view body, const Words& words);

}  // namespace pith::tool
