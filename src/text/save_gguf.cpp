// SPDX-License-Identifier: MIT
#include "text/save_gguf.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>
#include <utility>
#include <variant>

#include "text/gguf_names.hpp"
#include "text/load.hpp"
#include "text/sentencepiece_vocabulary.hpp"

namespace pith::text {

namespace {

using Json = nlohmann::json;

std::optional<Token> unknown_of(const Definition& definition) {
  if (const auto* spm = std::get_if<Spm>(&definition.model)) return spm->unknown();
  if (const auto* bpe = std::get_if<Bpe>(&definition.model)) return bpe->options().unknown;
  return std::nullopt;
}

std::vector<std::int32_t> kinds_of(const Definition& definition, std::size_t count) {
  const auto& vocabulary = definition.vocabulary;
  std::vector<PieceKind> kinds(count, PieceKind::normal);
  for (std::size_t i = 0; i < count; ++i)
    if (!vocabulary.has(static_cast<std::int64_t>(i))) kinds[i] = PieceKind::unused;
  if (is_sentencepiece(definition)) {
    for (const auto& byte : byte_tokens(vocabulary))
      if (byte) kinds[static_cast<std::size_t>(*byte)] = PieceKind::byte;
  }
  if (const auto* spm = std::get_if<Spm>(&definition.model)) {
    for (std::size_t i = 0; i < vocabulary.size(); ++i)
      if (kinds[i] == PieceKind::normal && !spm->score(static_cast<Token>(i))) kinds[i] = PieceKind::unused;
  }
  for (const AddedToken& token : definition.added)
    if (static_cast<std::size_t>(token.id) < count)
      kinds[static_cast<std::size_t>(token.id)] = token.special ? PieceKind::control : PieceKind::user_defined;
  if (const auto unknown = unknown_of(definition)) kinds[static_cast<std::size_t>(*unknown)] = PieceKind::unknown;

  std::vector<std::int32_t> numbers;
  for (const PieceKind kind : kinds) numbers.push_back(static_cast<std::int32_t>(kind));
  return numbers;
}

/// The model has rows for ids that the vocabulary leaves out; they get names that no text is made of.
std::vector<std::string> texts_of(const Definition& definition, std::size_t count) {
  const auto& vocabulary = definition.vocabulary;
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) {
    const auto id = static_cast<std::int64_t>(i);
    std::string text =
        vocabulary.has(id) ? std::string(vocabulary.text(static_cast<Token>(id))) : "[PAD" + std::to_string(i) + "]";
    while (!vocabulary.has(id) && vocabulary.find(text)) text += '_';
    out.push_back(std::move(text));
  }
  return out;
}

std::vector<float> scores_of(const Definition& definition, std::size_t count) {
  constexpr float never_merged = -1e9f;
  std::vector<float> scores(count, never_merged);
  if (const auto* spm = std::get_if<Spm>(&definition.model)) {
    for (std::size_t i = 0; i < definition.vocabulary.size(); ++i)
      scores[i] = spm->score(static_cast<Token>(i)).value_or(0.0f);
    return scores;
  }
  // SentencePiece merges by the score of what is made, converted files by rank: the first way to make it counts.
  float rank = 0;
  for (const auto& merge : std::get<Bpe>(definition.model).merges()) {
    float& score = scores[static_cast<std::size_t>(merge.merged)];
    score = std::max(score, -rank++);
  }
  return scores;
}

std::vector<std::string> merges_of(const Definition& definition) {
  const auto& vocabulary = definition.vocabulary;
  std::vector<std::string> out;
  for (const auto& merge : std::get<Bpe>(definition.model).merges())
    out.push_back(std::string(vocabulary.text(merge.left)).append(" ").append(vocabulary.text(merge.right)));
  return out;
}

/// Those of the model, then those that only the tokenizer knows of and no reader would add for their names.
std::vector<Token> ends_of(const Definition& definition, const ModelTokens& model) {
  Definition usual;
  usual.added = definition.added;
  add_usual_ends(usual);
  std::vector<Token> out = definition.suffix;  // what add_eos_token adds is the first one
  const auto add = [&](Token end) {
    if (std::find(out.begin(), out.end(), end) == out.end()) out.push_back(end);
  };
  for (const Token end : model.ends) add(end);
  for (const Token end : definition.ends)
    if (!usual.ends.contains(end)) add(end);
  if (out.empty()) out.assign(definition.ends.begin(), definition.ends.end());
  return out;
}

/// As many as the model has rows for, and all that merging can make.
std::size_t tokens_of(const Definition& definition, const ModelTokens& model) {
  const auto rows = static_cast<std::size_t>(model.vocab_size);
  const auto* bpe = std::get_if<Bpe>(&definition.model);
  if (bpe == nullptr) return std::max(rows, definition.vocabulary.size());
  Token last = 0;
  for (const auto& merge : bpe->merges()) last = std::max({last, merge.left, merge.right, merge.merged});
  return std::max(rows, static_cast<std::size_t>(last) + 1);
}

void add_id(gguf::Writer& out, std::string_view name, Token id) {
  out.add("tokenizer.ggml." + std::string(name) + "_token_id", static_cast<std::uint32_t>(id));
}

void save_ends(const std::vector<Token>& ends, gguf::Writer& out, std::vector<std::string>& notes) {
  constexpr std::array<std::string_view, 3> names = {"eos", "eot", "eom"};
  for (std::size_t i = 0; i < std::min(ends.size(), names.size()); ++i) add_id(out, names[i], ends[i]);
  if (ends.size() > names.size())
    notes.push_back("of " + std::to_string(ends.size()) + " end tokens, GGUF has room for " +
                    std::to_string(names.size()));
}

void save_ggml_keys(const Definition& definition, const ModelTokens& model, gguf::Writer& out,
                    std::vector<std::string>& notes) {
  const std::size_t count = tokens_of(definition, model);
  const GgufNames& names = definition.gguf;
  out.add("tokenizer.ggml.tokens", texts_of(definition, count));
  out.add("tokenizer.ggml.token_type", kinds_of(definition, count));
  out.add("tokenizer.ggml.add_space_prefix", names.prefix == SpacePrefix::yes);
  if (is_sentencepiece(definition)) {
    out.add("tokenizer.ggml.model", "llama");
    out.add("tokenizer.ggml.scores", scores_of(definition, count));
    if (names.squeezes_spaces) out.add("tokenizer.ggml.remove_extra_whitespaces", true);
  } else {
    out.add("tokenizer.ggml.model", "gpt2");
    out.add("tokenizer.ggml.merges", merges_of(definition));
    // Better a name that programs refuse than one by which they would cut texts in another way.
    out.add("tokenizer.ggml.pre", names.pre.empty() ? "unknown" : names.pre.c_str());
    if (names.pre.empty())
      notes.emplace_back("GGUF has no name for how this tokenizer cuts words: others will not read it");
  }
  if (const auto unknown = unknown_of(definition)) add_id(out, "unknown", *unknown);
  const auto bos = definition.bos ? definition.bos : model.bos;
  if (bos) add_id(out, "bos", *bos);
  out.add("tokenizer.ggml.add_bos_token", !definition.prefix.empty());
  out.add("tokenizer.ggml.add_eos_token", !definition.suffix.empty());
}

/// The tokenizer.json without the tokens that loading it beside its siblings leaves out.
std::string own_json(Json json, const Definition& definition) {
  std::set<std::string, std::less<>> kept;
  for (const AddedToken& token : definition.added) kept.insert(token.content);
  if (const auto added = json.find("added_tokens"); added != json.end() && added->is_array()) {
    Json left = Json::array();
    for (const Json& token : *added)
      if (kept.contains(token.value("content", ""))) left.push_back(token);
    *added = std::move(left);
  }
  return json.dump();
}

bool has_tokenizer(const std::filesystem::path& directory) {
  return std::ranges::any_of(std::array{"tokenizer.json", "vocab.json", "tokenizer.model"}, [&](const char* name) {
    std::error_code ignored;
    return std::filesystem::exists(directory / name, ignored);
  });
}

/// By the names under which others look for them.
void save_chat_templates(const std::filesystem::path& directory, gguf::Writer& out) {
  const auto found = ChatTemplate::find(directory);
  if (!found) return;
  constexpr std::string_view key = "tokenizer.chat_template";
  std::vector<std::string> named;
  for (const std::string& name : found->names()) {
    const bool usual = name == "default";
    out.add(usual ? std::string(key) : std::string(key) + "." + name, found->source(name));
    if (!usual) named.push_back(name);
  }
  if (!named.empty()) out.add(std::string(key) + "s", named);
}

}  // namespace

void save_gguf(const std::filesystem::path& directory, const ModelTokens& model, gguf::Writer& out,
               std::vector<std::string>& notes) {
  if (directory.empty() || !has_tokenizer(directory)) {
    out.add("tokenizer.ggml.model", "no_vocab");
    if (model.bos) add_id(out, "bos", *model.bos);
    save_ends(model.ends, out, notes);
    if (!directory.empty()) notes.push_back("no tokenizer in " + directory.string());
    return;
  }
  Definition definition = load_directory(directory);
  const auto path = directory / "tokenizer.json";
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    Json json = read_json(path);
    name_for_gguf(json, definition);
    out.add("tokenizer.huggingface.json", own_json(std::move(json), definition));
  }
  save_ggml_keys(definition, model, out, notes);
  save_ends(ends_of(definition, model), out, notes);
  save_chat_templates(directory, out);
}

}  // namespace pith::text
