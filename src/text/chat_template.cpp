// SPDX-License-Identifier: MIT
// Where chat templates are kept, and what a template is told of a conversation: as transformers'
// apply_chat_template does both.
#include "pith/chat_template.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <mutex>
#include <utility>

#include "files/gguf.hpp"
#include "files/input_file.hpp"
#include "files/json.hpp"
#include "pith/error.hpp"
#include "printable.hpp"
#include "text/jinja/data.hpp"
#include "text/jinja/interpreter.hpp"
#include "text/jinja/operators.hpp"
#include "text/json_node.hpp"
#include "text/unicode.hpp"

namespace pith {

namespace {

using text::JsonNode;
using text::jinja::Dict;
using text::jinja::List;
using text::jinja::None;
using text::jinja::Runtime;
using text::jinja::String;
using text::jinja::Value;
using text::jinja::Variables;

constexpr const char* default_name = "default";
constexpr const char* tools_name = "tool_use";

/// A template's text, and what it becomes when it is first used.
class Source {
 public:
  Source(std::string text, std::string where) : text_(std::move(text)), where_(std::move(where)) {}

  struct Parsed {
    text::jinja::Source source;
    text::jinja::Program program;
  };

  const std::string& text() const { return text_; }

  /// Throws Error (format, unsupported) at every call where the template cannot be parsed.
  const Parsed& parsed() const {
    std::call_once(once_, [&] {
      auto parsed = std::make_unique<Parsed>(Parsed{text::jinja::Source(text_, where_), {}});
      parsed->program = text::jinja::parse(parsed->source);
      parsed_ = std::move(parsed);
    });
    return *parsed_;
  }

 private:
  std::string text_, where_;
  mutable std::once_flag once_;
  mutable std::unique_ptr<const Parsed> parsed_;
};

}  // namespace

struct ChatTemplate::Impl {
  std::string where;
  std::map<std::string, Source> sources;
  std::map<std::string, std::string> special_tokens;

  void add(const std::string& name, std::string text, std::string from) {
    sources.try_emplace(name, std::move(text), std::move(from));
  }
  void read(const std::filesystem::path& path);  // of a model, or any file of it
  void read_directory(const std::filesystem::path& directory);
  void read_gguf(const std::filesystem::path& path);

  const Source& choose(const ChatOptions& options, bool has_tools) const;
  const Source& named(const std::string& name) const;
};

namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string read_text(const fs::path& path) { return std::string(InputFile::open(path)->text()); }

/// Adds those members "..._token" whose values are texts, or objects with one as "content". A null says that there is
/// none, whatever another file says; it is kept as an empty optional.
void read_special_tokens(const fs::path& path, std::map<std::string, std::optional<std::string>>& out) {
  if (!is_there(path)) return;
  const auto json = read_json(path);
  const JsonNode root(json, path.string());
  root.require_object();
  for (const auto& [key, value] : json.items()) {
    if (!key.ends_with("_token")) continue;
    if (value.is_string()) out.try_emplace(key, value.get<std::string>());
    if (value.is_object() && value.contains("content")) out.try_emplace(key, root.at(key).at("content").text());
    if (value.is_null()) out.try_emplace(key);
  }
}

}  // namespace

void ChatTemplate::Impl::read_directory(const fs::path& directory) {
  where = directory.string();
  const fs::path single = directory / "chat_template.jinja", more = directory / "additional_chat_templates",
                 config = directory / "tokenizer_config.json", old = directory / "chat_template.json";
  if (is_there(single)) add(default_name, read_text(single), single.string());
  if (is_there(more))
    for (const auto& entry : fs::directory_iterator(more))
      if (entry.path().extension() == ".jinja")
        add(entry.path().stem().string(), read_text(entry.path()), entry.path().string());

  const auto read_member = [&](const fs::path& path) {
    const auto json = read_json(path);
    const auto node = JsonNode(json, path.string()).find("chat_template");
    if (!node) return;
    if (!node->value().is_array()) return add(default_name, node->text(), node->where());
    for (const JsonNode& item : node->items()) add(item.at("name").text(), item.at("template").text(), item.where());
  };
  if (sources.empty() && is_there(config)) read_member(config);
  if (sources.empty() && is_there(old)) read_member(old);

  std::map<std::string, std::optional<std::string>> tokens;
  read_special_tokens(config, tokens);
  read_special_tokens(directory / "special_tokens_map.json", tokens);
  for (auto& [name, token] : tokens)
    if (token) special_tokens.emplace(name, std::move(*token));
}

void ChatTemplate::Impl::read_gguf(const fs::path& path) {
  where = path.string();
  const auto file = gguf::open(path);
  constexpr std::string_view key = "tokenizer.chat_template";
  for (auto entry = file.metadata.lower_bound(key); entry != file.metadata.end(); ++entry) {
    const std::string& name = entry->first;
    if (!name.starts_with(key)) break;
    if (name != key && name[key.size()] != '.') continue;  // tokenizer.chat_templates: the list of names
    add(name == key ? default_name : name.substr(key.size() + 1), file.get<std::string>(name), where + ": " + name);
  }

  constexpr std::array<std::pair<const char*, const char*>, 7> tokens = {
      {{"bos_token", "bos"},
       {"eos_token", "eos"},
       {"unk_token", "unknown"},
       {"sep_token", "seperator"},  // as ggml spells it
       {"pad_token", "padding"},
       {"cls_token", "cls"},
       {"mask_token", "mask"}}};
  const auto texts = file.array<std::string>("tokenizer.ggml.tokens");
  for (const auto& [variable, name] : tokens) {
    const std::string id_key = "tokenizer.ggml." + std::string(name) + "_token_id";
    if (file.find(id_key) == nullptr) continue;
    const auto id = file.get<std::int64_t>(id_key);
    if (id >= 0 && static_cast<std::size_t>(id) < texts.size())
      special_tokens.emplace(variable, texts[static_cast<std::size_t>(id)]);
  }
}

const Source& ChatTemplate::Impl::choose(const ChatOptions& options, bool has_tools) const {
  std::string name = options.name;
  if (name.empty()) name = has_tools && sources.contains(tools_name) ? tools_name : default_name;
  return named(name);
}

const Source& ChatTemplate::Impl::named(const std::string& name) const {
  if (const auto found = sources.find(name); found != sources.end()) return found->second;
  std::string known;
  for (const auto& [other, source] : sources) known += (known.empty() ? "" : ", ") + printable(other);
  fail(ErrorCode::argument, where + ": chat template", "one of " + known, in_quotes(name));
}

void ChatTemplate::Impl::read(const fs::path& path) {
  std::error_code ignored;
  if (path.extension() == ".gguf" && !fs::is_directory(path, ignored)) return read_gguf(path);
  read_directory(fs::is_directory(path, ignored) ? path : path.parent_path());
}

ChatTemplate ChatTemplate::load(const fs::path& file, const fs::path& model) {
  auto impl = std::make_shared<Impl>();
  impl->read(model);
  impl->where = file.string();
  impl->sources.clear();
  impl->add(default_name, read_text(file), file.string());
  return ChatTemplate(std::move(impl));
}

std::optional<ChatTemplate> ChatTemplate::find(const fs::path& path) {
  if (path.extension() == ".jinja") return load(path, path.parent_path());
  auto impl = std::make_shared<Impl>();
  impl->read(path);
  if (impl->sources.empty()) return std::nullopt;
  return ChatTemplate(std::move(impl));
}

ChatTemplate ChatTemplate::load(const fs::path& path) {
  std::optional<ChatTemplate> found = find(path);
  if (!found) fail(ErrorCode::format, path.string(), "a chat template", "none");
  return std::move(*found);
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::map<std::string, std::string>& special_tokens) {
  auto impl = std::make_shared<Impl>();
  impl->where = "chat template";
  impl->add(default_name, std::string(source), impl->where);
  impl->special_tokens = special_tokens;
  return ChatTemplate(std::move(impl));
}

std::vector<std::string> ChatTemplate::names() const {
  std::vector<std::string> out;
  for (const auto& [name, source] : impl_->sources) out.push_back(name);
  return out;
}

const std::string& ChatTemplate::source(const std::string& name) const { return impl_->named(name).text(); }

bool ChatTemplate::writes(std::string_view text) const {
  const auto spells = [&](const Source& source) {
    try {
      const auto& literals = source.parsed().program.literals;
      return std::any_of(literals.begin(), literals.end(),
                         [&](const std::string& literal) { return literal.find(text) != literal.npos; });
    } catch (const Error&) {
      return false;  // it writes nothing at all
    }
  };
  return std::any_of(impl_->sources.begin(), impl_->sources.end(),
                     [&](const auto& entry) { return spells(entry.second); });
}

namespace {

using Pairs = std::vector<std::pair<Value, Value>>;

/// The roles that templates know. Some build special tokens of them ("<|" + role + "|>"), and so these are the
/// template's words; any other role is data.
bool is_known_role(std::string_view role) {
  constexpr std::array<std::string_view, 13> roles = {"system",   "developer",   "user",       "assistant", "tool",
                                                      "function", "ipython",     "model",      "context",   "documents",
                                                      "thinking", "observation", "environment"};
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}

const std::string& text_of(const Value& key) { return key.as<String>()->bytes(); }

Value& member(Runtime& runtime, Pairs& pairs, std::string_view name) {
  for (auto& [key, value] : pairs)
    if (text_of(key) == name) return value;
  pairs.emplace_back(runtime.text(std::string(name)), Value());
  return pairs.back().second;
}

const Value* find(const Pairs& pairs, std::string_view name) {
  for (const auto& [key, value] : pairs)
    if (text_of(key) == name) return &value;
  return nullptr;
}

/// What transformers makes of a message: null members are absent; reasoning goes by the names that templates read.
Value normalized_message(Runtime& runtime, Pairs pairs) {
  std::erase_if(pairs, [](const auto& pair) { return std::holds_alternative<None>(pair.second); });
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const Value* found = find(pairs, name);
    if (found == nullptr) continue;
    const Value reasoning = *found;
    if (find(pairs, "thinking") == nullptr) pairs.insert(pairs.begin(), {runtime.text("thinking"), reasoning});
    member(runtime, pairs, "reasoning_content") = reasoning;
    break;
  }
  for (auto& [key, value] : pairs) {
    const auto* role = value.as<String>();
    if (role != nullptr && text_of(key) == "role" && is_known_role(role->bytes())) value = runtime.text(role->bytes());
  }
  return runtime.dict(std::move(pairs));
}

Pairs read_object(Runtime& runtime, std::string_view json, const std::string& where) {
  const Value value = text::jinja::read_data(runtime, json, where);
  const auto* dict = value.as<Dict>();
  if (dict == nullptr)
    fail(ErrorCode::argument, where, "a JSON object", "a " + std::string(text::jinja::type_name(value)));
  return dict->pairs->pairs;
}

std::vector<Value> read_objects(Runtime& runtime, std::string_view json, const std::string& where) {
  const Value value = text::jinja::read_data(runtime, json, where);
  const auto* list = value.as<List>();
  if (list == nullptr)
    fail(ErrorCode::argument, where, "a JSON array", "a " + std::string(text::jinja::type_name(value)));
  for (const Value& item : list->items->values)
    if (!item.is<Dict>())
      fail(ErrorCode::argument, where, "objects in the array", "a " + std::string(text::jinja::type_name(item)));
  return list->items->values;
}

std::tm local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm out{};
  ::localtime_r(&now, &out);
  return out;
}

/// `messages(runtime)` gives them as values.
template <class Messages>
ChatText render(const Source& source, const std::map<std::string, std::string>& special_tokens,
                const ChatOptions& options, Messages messages) {
  const auto& parsed = source.parsed();
  Runtime runtime(parsed.source, options.now ? *options.now : local_now(), {});
  std::vector<Value> values = messages(runtime);
  if (values.empty()) fail(ErrorCode::argument, "messages", "a conversation of at least one message", "none");

  Variables variables;
  const auto set = [&](const std::string& name, Value value) {
    for (auto& [known, old] : variables)
      if (known == name) {
        old = std::move(value);
        return;
      }
    variables.emplace_back(name, std::move(value));
  };
  for (const auto& [name, token] : special_tokens) set(name, runtime.text(token));
  set("tools", options.tools.empty() ? Value() : runtime.list(read_objects(runtime, options.tools, "tools")));
  set("documents", None{});
  if (!options.variables.empty())
    for (auto& [key, value] : read_object(runtime, options.variables, "variables")) set(text_of(key), std::move(value));
  set("messages", runtime.list(std::move(values)));
  set("add_generation_prompt", options.add_generation_prompt);

  const text::jinja::Text out = text::jinja::render(runtime, parsed.program, variables);
  ChatText chat;
  chat.text = out.bytes();
  for (const text::Range range : out.data()) chat.data.push_back({range.begin, range.end});
  return chat;
}

}  // namespace

ChatText ChatTemplate::render(const std::vector<Message>& messages, const ChatOptions& options) const {
  return pith::render(
      impl_->choose(options, !options.tools.empty()), impl_->special_tokens, options, [&](Runtime& runtime) {
        std::vector<Value> out;
        for (const Message& message : messages) {
          const auto data = [&](const std::string& bytes) {
            return runtime.text(text::repair(bytes), text::jinja::Origin::of_data);
          };
          Pairs pairs = {{runtime.text("role"), data(message.role)}, {runtime.text("content"), data(message.content)}};
          if (!message.more.empty())
            for (auto& [key, value] :
                 read_object(runtime, message.more, "message " + std::to_string(out.size()) + ": more"))
              member(runtime, pairs, text_of(key)) = std::move(value);
          out.push_back(normalized_message(runtime, std::move(pairs)));
        }
        return out;
      });
}

ChatText ChatTemplate::render_json(std::string_view messages_json, const ChatOptions& options) const {
  return pith::render(impl_->choose(options, !options.tools.empty()), impl_->special_tokens, options,
                      [&](Runtime& runtime) {
                        std::vector<Value> out = read_objects(runtime, messages_json, "messages");
                        for (Value& message : out)
                          message = normalized_message(runtime, message.as<Dict>()->pairs->pairs);
                        return out;
                      });
}

}  // namespace pith
