// SPDX-License-Identifier: MIT
// tokenizer_config.json, generation_config.json and config.json, as far as they concern a tokenizer.
#include <array>

#include "text/load.hpp"

namespace pith::text {

namespace {

/// Adds the id or the ids of `key`; those beyond the vocabulary belong to no text.
void read_ids(const JsonNode& node, std::string_view key, const Vocabulary& vocabulary, std::set<Token>& out) {
  const auto ids = node.find(key);
  if (!ids) return;
  const auto add = [&](const JsonNode& id) {
    if (vocabulary.has(id.integer())) out.insert(static_cast<Token>(id.integer()));
  };
  if (!ids->value().is_array()) return add(*ids);
  for (const JsonNode& id : ids->items()) add(id);
}

/// A token given as its text, or as an object with its text as content.
std::optional<Token> read_token(const JsonNode& node, const Vocabulary& vocabulary) {
  return vocabulary.find(node.value().is_object() ? node.at("content").text() : node.text());
}

/// The first of the usual names that is a special token here.
std::optional<Token> usual_bos(const Vocabulary& vocabulary) {
  constexpr std::array<std::string_view, 4> names = {"<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>"};
  for (const auto name : names) {
    const auto id = vocabulary.find(name);
    if (id && vocabulary.is_special(*id)) return id;
  }
  return {};
}

}  // namespace

Siblings::Siblings(const std::filesystem::path& directory)
    : tokenizer_config_{directory / "tokenizer_config.json", {}},
      generation_config_{directory / "generation_config.json", {}},
      config_{directory / "config.json", {}} {
  for (File* file : {&tokenizer_config_, &generation_config_, &config_}) {
    std::error_code ignored;
    if (!std::filesystem::exists(file->path, ignored)) continue;
    file->json = read_json(file->path);
    root(*file)->require_object();
  }
}

std::optional<JsonNode> Siblings::root(const File& file) {
  if (!file.json) return {};
  return JsonNode(*file.json, file.path.string());
}

void Siblings::read_ends(Definition& definition) const {
  const auto& vocabulary = definition.vocabulary;
  if (const auto node = tokenizer_config()) {
    if (const auto token = node->find("eos_token"))
      if (const auto id = read_token(*token, vocabulary)) definition.ends.insert(*id);
  }
  std::set<Token> starts;
  for (const File* file : {&generation_config_, &config_}) {
    if (const auto node = root(*file)) {
      read_ids(*node, "eos_token_id", vocabulary, definition.ends);
      if (starts.empty()) read_ids(*node, "bos_token_id", vocabulary, starts);
    }
  }
  add_usual_ends(definition);

  // A bos_token of null says that there is none, whatever id the model's config repeats.
  if (const auto node = tokenizer_config(); node && node->value().contains("bos_token")) {
    if (const auto token = node->find("bos_token")) definition.bos = read_token(*token, vocabulary);
  } else if (!starts.empty()) {
    definition.bos = *starts.begin();
  } else {
    definition.bos = usual_bos(vocabulary);
  }
}

std::optional<std::int64_t> Siblings::model_vocab_size() const {
  const auto node = config();
  const auto size = node ? node->find("vocab_size") : std::nullopt;
  if (!size || size->integer() <= 0) return {};
  return size->integer();
}

}  // namespace pith::text
