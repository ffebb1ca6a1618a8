// SPDX-License-Identifier: MIT
// The tokenizer inside a GGUF file: the keys tokenizer.ggml.*.
#include "files/gguf.hpp"
#include "pith/error.hpp"
#include "printable.hpp"
#include "text/load.hpp"
#include "text/patterns.hpp"
#include "text/sentencepiece_vocabulary.hpp"

namespace pith::text {

namespace {

constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
constexpr const char* no_vocabulary = "no_vocab";  // a model whose tokens are only numbers

std::string at(const std::string& where, std::string_view key) { return where + ": " + std::string(key); }

std::vector<Piece> read_pieces(const gguf::File& file, const std::string& where) {
  auto texts = file.array<std::string>(tokens_key);
  if (texts.empty()) fail(ErrorCode::format, at(where, tokens_key), "tokens", "none");
  const auto check_length = [&](std::string_view key, std::size_t n) {
    if (n != 0 && n != texts.size())
      fail(ErrorCode::format, at(where, key), std::to_string(texts.size()) + " elements, one a token",
           std::to_string(n));
  };
  const auto scores = file.array<double>("tokenizer.ggml.scores");
  const auto kinds = file.array<std::int64_t>("tokenizer.ggml.token_type");
  check_length("tokenizer.ggml.scores", scores.size());
  check_length("tokenizer.ggml.token_type", kinds.size());

  std::vector<Piece> out(texts.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].text = std::move(texts[i]);
    if (!scores.empty()) out[i].score = scores[i];
    if (!kinds.empty()) out[i].kind = piece_kind(kinds[i], at(where, "tokenizer.ggml.token_type"));
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
  constexpr std::string_view key = "tokenizer.ggml.merges";
  std::vector<Bpe::Pair> out;
  for (const auto& both : file.array<std::string>(key)) {
    const auto space = both.find(' ', 1);
    if (space == both.npos || space + 1 == both.size())
      fail(ErrorCode::format, at(where, key) + "[" + std::to_string(out.size()) + "]",
           "two tokens with a space between", in_quotes(both));
    out.emplace_back(both.substr(0, space), both.substr(space + 1));
  }
  if (file.find(key) == nullptr) fail(ErrorCode::format, at(where, key), "merges", "none");
  return out;
}

/// From the keys that ggml defines.
Definition read_ggml_keys(const gguf::File& file, const std::string& where) {
  const auto model = file.get_or<std::string>("tokenizer.ggml.model", no_vocabulary);
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
    const bool prefix = file.get_or<bool>("tokenizer.ggml.add_space_prefix", true);
    use_space_marks(out, prefix ? SpacePrefix::yes : SpacePrefix::no);
  } else if (model == "gpt2") {
    auto known =
        known_model(file.get_or<std::string>("tokenizer.ggml.pre", "default"), at(where, "tokenizer.ggml.pre"));
    Bpe::Options options;
    options.ignore_merges = known.ignore_merges;
    out.model = Bpe(out.vocabulary, read_merges(file, where), std::move(options), at(where, "tokenizer.ggml.merges"));
    out.normalizer = std::move(known.normalizer);
    if (file.get_or<bool>("tokenizer.ggml.add_space_prefix", false)) out.pre_tokenizer.add(PrefixSpace{});
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

/// A tokenizer.json in the file says all of it; ggml's keys, what they have words for.
Definition read_definition(const gguf::File& file, const std::string& where) {
  constexpr std::string_view key = "tokenizer.huggingface.json";
  if (file.find(key) == nullptr) return read_ggml_keys(file, where);
  const auto json_where = at(where, key);
  Definition out = read_tokenizer_json(parse_json(file.get<std::string>(key), json_where), json_where);
  out.bos = read_id(file, "tokenizer.ggml.bos_token_id", out.vocabulary, where);
  return out;
}

}  // namespace

Definition load_gguf(const std::filesystem::path& path) {
  const std::string where = path.string();
  const auto file = gguf::open(path);
  Definition out = read_definition(file, where);
  for (const auto end : {"eos", "eot", "eom"})
    if (const auto id = read_id(file, "tokenizer.ggml." + std::string(end) + "_token_id", out.vocabulary, where))
      out.ends.insert(*id);
  add_usual_ends(out);
  return out;
}

}  // namespace pith::text
