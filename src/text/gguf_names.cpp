// SPDX-License-Identifier: MIT
#include "text/gguf_names.hpp"

#include <algorithm>
#include <string>
#include <variant>
#include <vector>

#include "text/patterns.hpp"

namespace pith::text {

namespace {

using Json = nlohmann::json;

/// What a tokenizer.json does to a text before the model, as far as GGUF has names for it.
struct Cuts {
  std::vector<std::string> expressions;  // the text is cut at their matches, one after the other
  std::vector<std::string> of_symbols;   // and its byte symbols at those
  bool byte_symbols = false, prefix_space = false;
  bool known = true;  // false: it does something else, too
};

void read_cuts(const Json& node, Cuts& out) {
  if (!node.is_object()) return;
  const auto flag = [&](const char* key, bool fallback) {
    const auto found = node.find(key);
    return found == node.end() || !found->is_boolean() ? fallback : found->get<bool>();
  };
  const auto cut_at = [&](std::string_view expression) {
    (out.byte_symbols ? out.of_symbols : out.expressions).emplace_back(expression);
  };
  const std::string type = node.value("type", "");
  if (type == "Sequence") {
    for (const Json& part : node.value("pretokenizers", Json::array())) read_cuts(part, out);
  } else if (type == "ByteLevel") {
    if (flag("add_prefix_space", true)) out.prefix_space = true;
    if (flag("use_regex", true)) cut_at(gpt2_words);
    out.byte_symbols = true;
  } else if (type == "Split" && node.contains("pattern") && node["pattern"].contains("Regex") &&
             node.value("behavior", "") == "Isolated" && !flag("invert", false)) {
    cut_at(in_ascii(node["pattern"]["Regex"].get<std::string>()));
  } else if (type == "Digits") {
    cut_at(flag("individual_digits", false) ? digit : digits);
  } else if (type == "Punctuation" && node.value("behavior", "") == "Contiguous") {
    cut_at(signs);
  } else {
    out.known = false;
  }
}

bool composes(const Json& normalizer) { return normalizer.is_object() && normalizer.value("type", "") == "NFC"; }

/// Fills in how GGUF calls what the tokenizer.json does; leaves it empty where it has no name.
void name_cuts(const Json& root, Definition& definition) {
  Cuts cuts;
  if (const auto node = root.find("pre_tokenizer"); node != root.end()) read_cuts(*node, cuts);
  const auto normalizer = root.find("normalizer");
  const bool plain = normalizer == root.end() || normalizer->is_null() || composes(*normalizer);
  if (!cuts.known || !cuts.byte_symbols || !plain) return;
  const auto& options = std::get<Bpe>(definition.model).options();
  definition.gguf.pre = name_of_model(cuts.expressions, cuts.of_symbols, options.ignore_merges);
  if (cuts.prefix_space) definition.gguf.prefix = SpacePrefix::yes;
}

/// Whether a step of a converted SentencePiece tokenizer puts a space before the text.
bool prefixes_space(const Json& node) {
  if (!node.is_object()) return false;
  for (const char* parts : {"normalizers", "pretokenizers"}) {
    if (const auto list = node.find(parts); list != node.end() && list->is_array())
      return std::any_of(list->begin(), list->end(), prefixes_space);
  }
  const std::string type = node.value("type", "");
  if (type == "Metaspace")
    return node.value("prepend_scheme", node.value("add_prefix_space", true) ? "first" : "never") != "never";
  return type == "Prepend";
}

}  // namespace

bool is_sentencepiece(const Definition& definition) {
  if (std::holds_alternative<Spm>(definition.model)) return true;
  const auto* bpe = std::get_if<Bpe>(&definition.model);
  return bpe != nullptr && bpe->options().byte_fallback && definition.vocabulary.find(MarkSpaces{}.mark);
}

void name_for_gguf(const Json& root, Definition& definition) {
  if (!is_sentencepiece(definition)) {
    name_cuts(root, definition);
  } else if (prefixes_space(root.value("normalizer", Json())) || prefixes_space(root.value("pre_tokenizer", Json()))) {
    definition.gguf.prefix = SpacePrefix::yes;
  }
}

}  // namespace pith::text
