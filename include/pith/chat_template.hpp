// SPDX-License-Identifier: MIT
// Conversations to text, as the model's own template (a subset of Jinja) writes them.
#pragma once

#include <cstddef>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pith/api.hpp"

namespace pith {

/// One message of a conversation.
struct Message {
  std::string role;     // "system", "user", "assistant", "tool", ... as the template knows them
  std::string content;  // text
  /// A JSON object of what else there is ("tool_calls", "name", "reasoning_content"), or of what is given instead of
  /// the two above (a list of typed parts as "content"); empty: nothing.
  std::string more = {};
};

struct ChatOptions {
  bool add_generation_prompt = true;  // end where the assistant is to begin
  std::string tools = {};             // a JSON array of the functions that the model may call; empty: none
  std::string variables = {};  // a JSON object of what else the template may ask for ("enable_thinking"); empty: none
  std::string name = {};       // of the template; empty: "tool_use" where there are tools and it, else "default"
  std::optional<std::tm> now = {};  // local time for templates that tell the date; none: the clock's
};

/// What a template wrote, and which of it came from the conversation: that is text, whatever it looks like.
struct ChatText {
  struct Range {
    std::size_t begin = 0, end = 0;  // bytes [begin, end)
    bool operator==(const Range&) const = default;
  };
  std::string text;         // UTF-8
  std::vector<Range> data;  // in order, none empty, none touching the next
  bool begins_text = true;  // false: it goes on behind another one (some tokenizers mark where a text begins)
};

/// The chat templates of a model; immutable, copies share them, and any number of threads may use them.
///
/// A template's syntax is checked when it is first used. Rendering throws Error: `argument` for a conversation that the
/// template itself refuses and for options that are no JSON, `format` where Jinja raises, `unsupported` for what Jinja
/// does and this does not, and for a template that takes too much work or memory. Faults of the template are told with
/// line and column.
class PITH_API ChatTemplate {
 public:
  /// From a Hugging Face directory (chat_template.jinja and additional_chat_templates/, else tokenizer_config.json), or
  /// from a file: a .gguf, a .jinja, or any other file of such a directory. Throws Error (file, format) where what is
  /// there cannot be read, and where there is no template.
  static ChatTemplate load(const std::filesystem::path& path);

  /// The same, and nothing where there is no template.
  static std::optional<ChatTemplate> find(const std::filesystem::path& path);

  /// From a .jinja file, with the special tokens of a model whose own templates it stands in for.
  static ChatTemplate load(const std::filesystem::path& file, const std::filesystem::path& model);

  /// From its text. `special_tokens`: variables such as "bos_token", which are of the template, not of the data.
  static ChatTemplate parse(std::string_view source, const std::map<std::string, std::string>& special_tokens = {});

  /// In order of their names; "default" for a single one.
  std::vector<std::string> names() const;

  /// A template's own text. Throws Error (argument) for a name that none has.
  const std::string& source(const std::string& name) const;

  /// `messages_json`: an array of objects with "role" and "content". Members that are null count as absent, as
  /// transformers has it.
  ChatText render(const std::vector<Message>& messages, const ChatOptions& options = {}) const;
  ChatText render_json(std::string_view messages_json, const ChatOptions& options = {}) const;

  /// Whether a template spells this text anywhere in what it writes itself.
  bool writes(std::string_view text) const;

 private:
  struct PITH_LOCAL Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace pith
