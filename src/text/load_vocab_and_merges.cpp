// SPDX-License-Identifier: MIT
// The older pair of files of byte-level BPE: vocab.json, text to id, and merges.txt, a pair a line. What they leave
// open is in tokenizer_config.json, or follows from the name of the class given there.
#include <algorithm>
#include <array>
#include <set>

#include "files/input_file.hpp"
#include "pith/error.hpp"
#include "printable.hpp"
#include "text/load.hpp"
#include "text/patterns.hpp"

namespace pith::text {

namespace {

constexpr std::string_view gpt2_end = "<|endoftext|>";

std::vector<Bpe::Pair> read_merges(const std::filesystem::path& path) {
  const auto file = InputFile::open(path);
  std::string_view text = file->text();

  std::vector<Bpe::Pair> out;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const auto space = line.find(' ');
    if (space == 0 || space >= line.size() - 1 || line.find(' ', space + 1) != line.npos)
      fail(ErrorCode::format, path.string() + ": line " + std::to_string(number), "two tokens with a space between",
           in_quotes(line));
    out.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return out;
}

/// The model a class of Hugging Face's tokenizes for, as GGUF calls it.
std::string_view model_of_class(const std::optional<JsonNode>& config, const std::optional<JsonNode>& model_config) {
  constexpr std::string_view fast = "Fast";
  if (const auto node = config ? config->find("tokenizer_class") : std::nullopt) {
    std::string_view name = node->text();
    if (name.ends_with(fast)) name.remove_suffix(fast.size());
    if (name == "GPT2Tokenizer") return "gpt-2";
    if (name == "Qwen2Tokenizer") return "qwen2";
    node->unsupported("tokenizer class " + in_quotes(name) + " without a tokenizer.json");
  }
  const std::string type = model_config ? model_config->text_or("model_type", "gpt2") : "gpt2";
  return type.starts_with("qwen") ? "qwen2" : "gpt-2";
}

/// What tokenizer_config.json calls by name: bos_token and its like, and additional_special_tokens.
std::set<std::string, std::less<>> special_names(const JsonNode& config) {
  std::set<std::string, std::less<>> out;
  const auto add = [&](const JsonNode& node) {
    out.insert(node.value().is_object() ? node.at("content").text() : node.text());
  };
  for (const auto key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"})
    if (const auto token = config.find(key)) add(*token);
  if (const auto tokens = config.find("additional_special_tokens"))
    for (const JsonNode& token : tokens->items()) add(token);
  return out;
}

std::int64_t id_of_key(const JsonNode& node, std::string_view key) {
  const bool number = !key.empty() && key.size() <= 9 &&
                      std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!number) fail(ErrorCode::format, node.where(), "keys that are ids", in_quotes(key));
  return std::stoll(std::string(key));
}

void read_added_tokens(const std::filesystem::path& directory, const std::optional<JsonNode>& config, Definition& out) {
  std::set<std::string, std::less<>> done;
  const auto add = [&](AddedToken token, std::int64_t id, std::string_view where) {
    if (done.insert(token.content).second) add_token(out, std::move(token), id, where);
  };
  auto names = config ? special_names(*config) : std::set<std::string, std::less<>>();
  names.insert(std::string(gpt2_end));  // what both classes take for the end where nothing is said

  if (const auto tokens = config ? config->find("added_tokens_decoder") : std::nullopt) {
    tokens->require_object();
    for (const auto& [key, value] : tokens->value().items()) {
      const JsonNode node(value, tokens->where() + ": " + printable(key));
      add(read_added_token(node, node.at("content").text()), id_of_key(*tokens, key), node.where());
    }
  }
  std::error_code ignored;
  if (const auto path = directory / "added_tokens.json"; std::filesystem::exists(path, ignored)) {
    const auto json = read_json(path);
    const JsonNode root(json, path.string());
    root.require_object();
    for (const auto& [content, id] : json.items()) {
      AddedToken token;
      token.content = content;
      token.special = names.contains(content);
      add(std::move(token), JsonNode(id, path.string() + ": token " + in_quotes(content)).integer(), path.string());
    }
  }
  for (const auto& name : names) {
    const auto id = out.vocabulary.find(name);
    if (!id) continue;
    AddedToken token;
    token.content = name;
    token.special = true;
    add(std::move(token), *id, directory.string());
  }
}

}  // namespace

Definition load_vocab_and_merges(const std::filesystem::path& vocab, const std::filesystem::path& merges) {
  const auto directory = vocab.parent_path();
  const Siblings siblings(directory);
  const auto config = siblings.tokenizer_config();

  Definition out;
  const auto json = read_json(vocab);
  read_vocabulary(JsonNode(json, vocab.string()), out.vocabulary);
  Bpe::Options options;
  out.gguf.pre = model_of_class(config, siblings.config());
  auto known = known_model(out.gguf.pre, vocab.string());
  options.ignore_merges = known.ignore_merges;
  out.model = Bpe(out.vocabulary, read_merges(merges), std::move(options), merges.string());
  out.normalizer = std::move(known.normalizer);
  if (config && config->flag_or("add_prefix_space", false)) {
    out.gguf.prefix = SpacePrefix::yes;
    out.pre_tokenizer.add(PrefixSpace{});
  }
  out.pre_tokenizer.append(known.pre_tokenizer);
  out.decoder.add(FromByteSymbols{});

  read_added_tokens(directory, config, out);
  siblings.read_ends(out);
  const auto ends = config ? config->find("eos_token") : std::nullopt;
  if (config && config->flag_or("add_bos_token", false) && out.bos) out.prefix.push_back(*out.bos);
  if (config && config->flag_or("add_eos_token", false) && ends) {
    if (const auto id = out.vocabulary.find(ends->value().is_object() ? ends->at("content").text() : ends->text()))
      out.suffix.push_back(*id);
  }
  return out;
}

}  // namespace pith::text
