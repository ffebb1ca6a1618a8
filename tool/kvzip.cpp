// SPDX-License-Identifier: MIT
#include "kvzip.hpp"

#include <optional>
#include <string>

#include "pith/chat_template.hpp"
#include "pith/error.hpp"

namespace pith::tool {

namespace {

/// What a chat template writes between the end of a message and the answer.
std::string turn_of(const ModelOptions& model) {
  const std::string message = "0", none = "\n";
  const std::optional<ChatTemplate> form = ChatTemplate::find(model.path);
  if (!form) return none;
  try {
    const std::string text = form->render({{"user", message}}).text;
    return text.substr(text.rfind(message) + message.size());
  } catch (const Error&) {
    return none;  // a template that has other demands
  }
}

}  // namespace

Replay replay_of(const ModelOptions& model, const Tokenizer& tokenizer, float share) {
  const auto tokens = [&](const std::string& text) { return tokenizer.encode(text, Specials::parse_only); };
  return {.share = share,
          .all = tokens("\n\nRepeat the previous context exactly."),
          .part = tokens("\n\nRepeat the part of the previous context exactly, starting with"),
          .answer = tokens(turn_of(model))};
}

}  // namespace pith::tool
