// SPDX-License-Identifier: MIT
// From each form in which a tokenizer is kept to its definition.
#pragma once

#include <filesystem>
#include <optional>
#include <span>

#include "files/gguf.hpp"
#include "files/json.hpp"
#include "text/definition.hpp"
#include "text/json_node.hpp"

namespace pith::text {

/// What the other files of a Hugging Face directory say of its tokenizer; each may be absent.
class Siblings {
 public:
  /// Throws Error (file, format) for one that is there and cannot be read.
  explicit Siblings(const std::filesystem::path& directory);

  std::optional<JsonNode> tokenizer_config() const { return root(tokenizer_config_); }
  std::optional<JsonNode> config() const { return root(config_); }

  /// Reads which token begins and which ones end a text.
  void read_ends(Definition& definition) const;

  /// How many ids the model has rows for, where config.json says.
  std::optional<std::int64_t> model_vocab_size() const;

 private:
  struct File {
    std::filesystem::path path;
    std::optional<nlohmann::json> json;
  };
  static std::optional<JsonNode> root(const File& file);

  File tokenizer_config_, generation_config_, config_;
};

/// `path` names the file in errors; its directory may hold siblings. All throw Error (file, format, unsupported).
Definition load_directory(const std::filesystem::path& directory);
Definition load_tokenizer_json(const nlohmann::json& json, const std::filesystem::path& path);
Definition load_vocab_and_merges(const std::filesystem::path& vocab, const std::filesystem::path& merges);
Definition load_sentencepiece(const std::filesystem::path& path);
Definition load_gguf(const std::filesystem::path& path, const TokenizerOptions& options);

/// What is to be said of a GGUF whose tokenizer does not tell how it cuts words; nothing of all others.
std::optional<std::string> note_on_pre(const gguf::File& file);

/// What a tokenizer.json says itself, without the files beside it. Throws Error (format, unsupported).
Definition read_tokenizer_json(const nlohmann::json& json, const std::string& where);

/// An object of texts and their ids.
void read_vocabulary(const JsonNode& node, Vocabulary& out);

/// The flags of an added token in JSON; `content` and id are the caller's to read.
AddedToken read_added_token(const JsonNode& node, std::string content);

}  // namespace pith::text
