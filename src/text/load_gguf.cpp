// SPDX-License-Identifier: MIT
// The tokenizer inside a GGUF file: the keys tokenizer.ggml.*, and a tokenizer.json where one is embedded.
#include <algorithm>
#include <variant>

#include "files/gguf.hpp"
#include "pith/error.hpp"
#include "printable.hpp"
#include "text/gguf_names.hpp"
#include "text/load.hpp"
#include "text/patterns.hpp"
#include "text/sentencepiece_vocabulary.hpp"

namespace pith::text {

namespace {

constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
constexpr std::string_view kinds_key = "tokenizer.ggml.token_type";
constexpr std::string_view merges_key = "tokenizer.ggml.merges";
constexpr std::string_view pre_key = "tokenizer.ggml.pre";
constexpr std::string_view space_key = "tokenizer.ggml.add_space_prefix";
constexpr std::string_view json_key = "tokenizer.huggingface.json";
constexpr const char* unnamed = "unknown";         // what pith writes where GGUF has no name
constexpr const char* no_vocabulary = "no_vocab";  // a model whose tokens are only numbers

std::string at(const std::string& where, std::string_view key) { return where + ": " + std::string(key); }

std::string model_of(const gguf::File& file) { return file.get_or<std::string>("tokenizer.ggml.model", no_vocabulary); }

std::vector<Piece> read_pieces(const gguf::File& file, const std::string& where) {
  auto texts = file.array<std::string>(tokens_key);
  if (texts.empty()) fail(ErrorCode::format, at(where, tokens_key), "tokens", "none");
  const auto check_length = [&](std::string_view key, std::size_t n) {
    if (n != 0 && n != texts.size())
      fail(ErrorCode::format, at(where, key), std::to_string(texts.size()) + " elements, one a token",
           std::to_string(n));
  };
  const auto scores = file.array<double>("tokenizer.ggml.scores");
  const auto kinds = file.array<std::int64_t>(kinds_key);
  check_length("tokenizer.ggml.scores", scores.size());
  check_length(kinds_key, kinds.size());

  std::vector<Piece> out(texts.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].text = std::move(texts[i]);
    if (!scores.empty()) out[i].score = scores[i];
    if (!kinds.empty()) out[i].kind = piece_kind(kinds[i], at(where, kinds_key));
  }
  return out;
}

std::optional<Token> read_id(const gguf::File& file, std::string_view key, const Vocabulary& vocabulary,
                             const std::string& where) {
  if (file.find(key) == nullptr) return {};
  const auto id = file.get<std::int64_t>(key);
  // Converters write the largest number for a token that a model does not have.
  if (id == 0xffffffff || id == -1) return {};
  if (!vocabulary.has(id))
    fail(ErrorCode::format, at(where, key), "an id below " + std::to_string(vocabulary.size()), std::to_string(id));
  return static_cast<Token>(id);
}

std::vector<Bpe::Pair> read_merges(const gguf::File& file, const std::string& where) {
  std::vector<Bpe::Pair> out;
  for (const auto& both : file.array<std::string>(merges_key)) {
    const auto space = both.find(' ', 1);
    if (space == both.npos || space + 1 == both.size())
      fail(ErrorCode::format, at(where, merges_key) + "[" + std::to_string(out.size()) + "]",
           "two tokens with a space between", in_quotes(both));
    out.emplace_back(both.substr(0, space), both.substr(space + 1));
  }
  if (file.find(merges_key) == nullptr) fail(ErrorCode::format, at(where, merges_key), "merges", "none");
  return out;
}

std::string no_pre(const std::string& where) {
  return "pre: " + where + " does not say how its tokenizer cuts words (" + std::string(pre_key) +
         "), which here is done as for \"default\", seldom as the model was trained; known are " + names_of_models();
}

/// What tokenizer.ggml.pre says or `chosen` says instead.
KnownModel read_pre(const gguf::File& file, const std::string& chosen, const std::string& where,
                    std::vector<std::string>& notes) {
  if (!chosen.empty()) return known_model(chosen, "pre", ErrorCode::argument);
  if (file.find(pre_key) != nullptr) return known_model(file.get<std::string>(pre_key), at(where, pre_key));
  notes.push_back(no_pre(where));
  return known_model("default", at(where, pre_key));
}

/// From the keys that ggml defines.
Definition read_ggml_keys(const gguf::File& file, const std::string& pre, const std::string& where) {
  const auto model = model_of(file);
  if (!pre.empty() && model != "gpt2")
    fail(ErrorCode::argument, "pre", "a byte-level tokenizer (gpt2)", in_quotes(model));
  if (model.empty() || model == no_vocabulary)
    fail(ErrorCode::format, at(where, "tokenizer.ggml.model"), "a tokenizer in the file", "none");

  Definition out;
  const auto pieces = read_pieces(file, where);
  add_pieces(pieces, where, out);
  const auto id = [&](std::string_view key) { return read_id(file, key, out.vocabulary, where); };
  out.bos = id("tokenizer.ggml.bos_token_id");

  bool adds_bos = true;
  if (model == "llama") {
    if (file.find("tokenizer.ggml.scores") == nullptr)
      fail(ErrorCode::format, at(where, "tokenizer.ggml.scores"), "a score for each token", "none");
    out.model = spm_model(pieces, out.vocabulary, id("tokenizer.ggml.unknown_token_id"), where);
    if (file.get_or<bool>("tokenizer.ggml.remove_extra_whitespaces", false)) squeeze_spaces(out, where);
    const bool prefix = file.get_or<bool>(space_key, true);
    use_space_marks(out, prefix ? SpacePrefix::yes : SpacePrefix::no);
  } else if (model == "gpt2") {
    auto known = read_pre(file, pre, where, out.notes);
    Bpe::Options options;
    options.ignore_merges = known.ignore_merges;
    out.model = Bpe(out.vocabulary, read_merges(file, where), std::move(options), at(where, merges_key));
    out.normalizer = std::move(known.normalizer);
    if (file.get_or<bool>(space_key, false)) out.pre_tokenizer.add(PrefixSpace{});
    out.pre_tokenizer.append(known.pre_tokenizer);
    out.decoder.add(FromByteSymbols{});
    adds_bos = known.adds_bos;
  } else {
    fail(ErrorCode::unsupported, at(where, "tokenizer.ggml.model") + ": tokenizer model " + in_quotes(model) +
                                     (model == "bert" ? " (WordPiece)"
                                      : model == "t5" ? " (Unigram)"
                                                      : "") +
                                     " is not supported");
  }

  if (file.get_or<bool>("tokenizer.ggml.add_bos_token", adds_bos) && out.bos) out.prefix.push_back(*out.bos);
  const auto eos = id("tokenizer.ggml.eos_token_id");
  if (file.get_or<bool>("tokenizer.ggml.add_eos_token", false) && eos) out.suffix.push_back(*eos);
  return out;
}

bool same_merges(const gguf::File& file, const Definition& json, const Bpe& bpe) {
  const auto texts = file.array<std::string>(merges_key);
  const auto merges = bpe.merges();
  const auto spells = [&](const std::string& text, const Bpe::Ranked& merge) {
    const auto left = json.vocabulary.text(merge.left), right = json.vocabulary.text(merge.right);
    return text.size() == left.size() + 1 + right.size() && text.starts_with(left) && text.ends_with(right) &&
           text[left.size()] == ' ';
  };
  return std::equal(texts.begin(), texts.end(), merges.begin(), merges.end(), spells);
}

/// The first of ggml's keys that says something else than the tokenizer.json; empty where none does. What only one of
/// both has words for is no difference.
std::string_view differing_key(const gguf::File& file, const Definition& json, const std::string& where) {
  const auto& vocabulary = json.vocabulary;
  const auto pieces = read_pieces(file, where);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto id = static_cast<Token>(i);
    if (!vocabulary.has(id)) continue;
    if (vocabulary.text(id) != pieces[i].text) return tokens_key;
    const bool control = pieces[i].kind == PieceKind::control, unknown = pieces[i].kind == PieceKind::unknown;
    if (file.find(kinds_key) != nullptr && !unknown && vocabulary.is_special(id) != control) return kinds_key;
  }
  const bool prefix = json.gguf.prefix == SpacePrefix::yes;
  if (file.get_or<bool>(space_key, prefix) != prefix) return space_key;
  if (is_sentencepiece(json)) return {};
  const auto* bpe = std::get_if<Bpe>(&json.model);
  if (bpe != nullptr && file.find(merges_key) != nullptr && !same_merges(file, json, *bpe)) return merges_key;
  const auto pre = file.get_or<std::string>(pre_key, json.gguf.pre);
  return json.gguf.pre.empty() || cut_alike(pre, json.gguf.pre) ? std::string_view() : pre_key;
}

/// Whether, and with which token, texts begin and end is for ggml's keys to say where they do.
void read_ends_of_texts(const gguf::File& file, const std::string& where, Definition& out) {
  out.bos = read_id(file, "tokenizer.ggml.bos_token_id", out.vocabulary, where);
  const auto eos = read_id(file, "tokenizer.ggml.eos_token_id", out.vocabulary, where);
  const auto decide = [&](std::string_view key, std::optional<Token> token, std::vector<Token>& around) {
    const bool adds = file.get_or<bool>(key, !around.empty());
    if (!adds) around.clear();
    if (adds && token && std::find(around.begin(), around.end(), *token) == around.end()) around = {*token};
  };
  decide("tokenizer.ggml.add_bos_token", out.bos, out.prefix);
  decide("tokenizer.ggml.add_eos_token", eos, out.suffix);
}

/// A tokenizer.json in the file says all of it; ggml's keys, what they have words for. Where both speak and differ, the
/// keys have been edited, and count.
Definition read_definition(const gguf::File& file, const std::string& pre, const std::string& where) {
  if (file.find(json_key) == nullptr || !pre.empty()) return read_ggml_keys(file, pre, where);
  const auto json_where = at(where, json_key);
  const auto json = parse_json(file.get<std::string>(json_key), json_where);
  Definition out = read_tokenizer_json(json, json_where);
  const auto model = model_of(file);
  name_for_gguf(json, out);
  if (model == "gpt2" || model == "llama") {
    if (const auto key = differing_key(file, out, where); !key.empty()) {
      out = read_ggml_keys(file, pre, where);
      out.notes.push_back(where + ": " + std::string(key) + " differs from " + std::string(json_key) +
                          ", which therefore does not count");
      return out;
    }
    if (model == "gpt2" && out.gguf.pre.empty() && file.get_or<std::string>(pre_key, unnamed) != unnamed)
      out.notes.push_back(where + ": " + std::string(json_key) + " cuts words in a way that has no name, and counts; " +
                          std::string(pre_key) + " does not");
  }
  read_ends_of_texts(file, where, out);
  return out;
}

}  // namespace

std::optional<std::string> note_on_pre(const gguf::File& file) {
  if (model_of(file) != "gpt2" || file.find(json_key) != nullptr || file.find(pre_key) != nullptr) return {};
  return no_pre(file.file->path().string());
}

Definition load_gguf(const std::filesystem::path& path, const TokenizerOptions& options) {
  const std::string where = path.string();
  const auto file = gguf::open(path);
  Definition out = read_definition(file, options.pre, where);
  for (const auto end : {"eos", "eot", "eom"})
    if (const auto id = read_id(file, "tokenizer.ggml." + std::string(end) + "_token_id", out.vocabulary, where))
      out.ends.insert(*id);
  add_usual_ends(out);
  return out;
}

}  // namespace pith::text
