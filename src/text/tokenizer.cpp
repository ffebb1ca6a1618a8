// SPDX-License-Identifier: MIT
// Tokenizer: a text goes through its definition from top to bottom in Tokenizer::encode.
#include "pith/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <utility>

#include "files/model_files.hpp"
#include "pith/error.hpp"
#include "printable.hpp"
#include "text/impl.hpp"
#include "text/load.hpp"
#include "text/unicode.hpp"

namespace pith {

namespace {

using text::Definition;

/// The tokens of the words that a text repeats; for the length of one encode().
class WordCache {
 public:
  const std::vector<Token>* find(std::string_view word) const {
    const auto found = words_.find(word);
    return found == words_.end() ? nullptr : &found->second;
  }

  void add(std::string_view word, std::span<const Token> tokens) {
    constexpr std::size_t longest = 64, most = 1 << 16;  // longer words hardly come again, and memory is bounded
    if (word.size() <= longest && words_.size() < most) words_.emplace(word, std::vector(tokens.begin(), tokens.end()));
  }

 private:
  text::StringMap<std::vector<Token>> words_;
};

/// Encodes one text: what can be used again from word to word.
class Encoder {
 public:
  Encoder(const Tokenizer::Impl& impl, std::vector<Token>& out) : impl_(impl), out_(out) {}

  void add_words(std::string text, text::Place place) {
    const text::Words words = impl_.definition.pre_tokenizer(std::move(text), place);
    for (const text::Range range : words.words) add_word(range.of(words.text));
  }

 private:
  void add_word(std::string_view word) {
    if (const auto* known = cache_.find(word)) {
      out_.insert(out_.end(), known->begin(), known->end());
      return;
    }
    constexpr std::size_t longest = 0xffffff00;  // positions within a word are kept in 32 bits
    if (word.size() > longest)
      fail(ErrorCode::argument, "text", "words of less than 4 GiB", "one of " + std::to_string(word.size()) + " bytes");
    const std::size_t begin = out_.size();
    const auto& vocabulary = impl_.definition.vocabulary;
    if (const auto* bpe = std::get_if<text::Bpe>(&impl_.definition.model)) bpe->encode(vocabulary, word, merger_, out_);
    if (const auto* spm = std::get_if<text::Spm>(&impl_.definition.model)) spm->encode(vocabulary, word, merger_, out_);
    cache_.add(word, std::span(out_).subspan(begin));
  }

  const Tokenizer::Impl& impl_;
  std::vector<Token>& out_;
  text::Merger merger_;
  WordCache cache_;
};

void check(Token token) {
  if (token < 0) fail(ErrorCode::argument, "token", "an id of at least 0", std::to_string(token));
}

bool is_gguf(const std::filesystem::path& path) {
  std::array<char, 4> magic{};
  std::ifstream file(path, std::ios::binary);
  file.read(magic.data(), magic.size());
  return file && std::string_view(magic.data(), magic.size()) == "GGUF";
}

Definition load_json(const std::filesystem::path& path) {
  const auto json = read_json(path);
  const auto model = json.is_object() ? json.find("model") : json.end();
  if (model != json.end() && model->is_object()) return text::load_tokenizer_json(json, path);
  // A vocabulary may have a token "model", but its id is no object.
  if (path.filename() == "vocab.json") return text::load_vocab_and_merges(path, path.parent_path() / "merges.txt");
  fail(ErrorCode::format, path.string(), "a tokenizer.json, with an object \"model\"", "none");
}

Definition load(const std::filesystem::path& path, const TokenizerOptions& options) {
  refuse_part_of_directory(path);
  std::error_code ignored;
  const bool directory = std::filesystem::is_directory(path, ignored);
  if (!directory && (path.extension() == ".gguf" || is_gguf(path))) return text::load_gguf(path, options);
  if (!options.pre.empty())
    fail(ErrorCode::argument, "pre", "a GGUF, whose tokenizer may leave it open", "'" + path.string() + "'");
  if (directory) return text::load_directory(path);
  if (path.filename() == "merges.txt") return text::load_vocab_and_merges(path.parent_path() / "vocab.json", path);
  if (path.extension() == ".model") return text::load_sentencepiece(path);
  return load_json(path);
}

}  // namespace

Tokenizer::Impl::Impl(Definition from) : definition(std::move(from)) {
  for (const auto& token : definition.added) {
    const auto spelling = token.normalized ? definition.normalizer(token.content) : token.content;
    const auto add = [&](Finders& to) { (token.normalized ? to.normalized : to.raw).add(token, spelling); };
    add(all_tokens);
    if (!token.special) add(no_specials);
  }

  if (cuts_before_spaces())
    definition.pre_tokenizer.add(text::isolate("\xe2\x96\x81*+[^\xe2\x96\x81]++|\xe2\x96\x81++", "word boundaries"));

  const auto& vocabulary = definition.vocabulary;
  pieces.resize(vocabulary.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto id = static_cast<Token>(i);
    if (vocabulary.has(id)) pieces[i] = definition.decoder(vocabulary.text(id), text::Place::inside);
  }
}

/// Whether words between SentencePiece's spaces can be encoded one by one. Where nothing else cuts a text, that is
/// so if no token reaches over such a boundary, for then no merge does; and words can be looked up.
bool Tokenizer::Impl::cuts_before_spaces() const {
  constexpr std::string_view mark = "\xe2\x96\x81";
  const auto& vocabulary = definition.vocabulary;
  const auto* bpe = std::get_if<text::Bpe>(&definition.model);
  if (!definition.pre_tokenizer.empty() || !vocabulary.find(mark)) return false;
  if (bpe != nullptr) {
    const auto& options = bpe->options();
    if (options.ignore_merges || !options.word_part_prefix.empty() || !options.word_end_suffix.empty()) return false;
  }
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    auto text = vocabulary.text(static_cast<Token>(i));
    while (text.starts_with(mark)) text.remove_prefix(mark.size());
    if (text.find(mark) != text.npos) return false;
  }
  return true;
}

void Tokenizer::Impl::append_bytes(Token token, text::Place& place, std::string& out) const {
  if (static_cast<std::size_t>(token) >= pieces.size()) return;
  const std::string& inside = pieces[static_cast<std::size_t>(token)];
  if (place == text::Place::inside || inside.empty()) {
    out += inside;
  } else {
    out += definition.decoder(definition.vocabulary.text(token), place);
    place = text::Place::inside;  // even where all of the token has been trimmed away
  }
}

Tokenizer Tokenizer::load(const std::filesystem::path& path, const TokenizerOptions& options) {
  return Tokenizer(std::make_shared<const Impl>(pith::load(path, options)));
}

std::vector<Token> Tokenizer::encode(std::string_view text, Specials specials) const {
  std::string repaired;
  if (!text::is_utf8(text)) text = repaired = text::repair(text);

  const Definition& definition = impl_->definition;
  const bool adds = specials == Specials::add_only || specials == Specials::as_trained;
  const bool parses = specials == Specials::parse_only || specials == Specials::as_trained;
  const auto& finders = parses ? impl_->all_tokens : impl_->no_specials;
  std::vector<Token> out;
  out.reserve(text.size() / 3 + 2);
  if (adds) out = definition.prefix;

  Encoder encoder(*impl_, out);
  for (const text::Part& raw : finders.raw.split(text)) {
    if (raw.token) {
      out.push_back(*raw.token);
      continue;
    }
    const std::string normalized = definition.normalizer(std::string(raw.range.of(text)));
    for (const text::Part& part : finders.normalized.split(normalized)) {
      const bool at_start = raw.range.begin == 0 && part.range.begin == 0;
      if (part.token) {
        out.push_back(*part.token);
      } else {
        encoder.add_words(std::string(part.range.of(normalized)), at_start ? text::Place::start : text::Place::inside);
      }
    }
  }

  if (adds) out.insert(out.end(), definition.suffix.begin(), definition.suffix.end());
  return out;
}

std::string Tokenizer::decode(std::span<const Token> tokens, Show show) const {
  std::string bytes;
  auto place = text::Place::start;
  for (const Token token : tokens) {
    check(token);
    if (show == Show::text_only && is_special(token)) continue;
    impl_->append_bytes(token, place, bytes);
  }
  return text::is_utf8(bytes) ? bytes : text::repair(bytes);
}

std::string_view Tokenizer::piece(Token token) const {
  check(token);
  const auto i = static_cast<std::size_t>(token);
  return i >= impl_->pieces.size() || is_special(token) ? std::string_view() : impl_->pieces[i];
}

const std::vector<std::string>& Tokenizer::notes() const { return impl_->definition.notes; }

int Tokenizer::vocab_size() const { return static_cast<int>(impl_->definition.vocabulary.size()); }

std::optional<Token> Tokenizer::bos() const { return impl_->definition.bos; }

bool Tokenizer::is_end(Token token) const { return impl_->definition.ends.contains(token); }

bool Tokenizer::is_special(Token token) const {
  const auto& vocabulary = impl_->definition.vocabulary;
  return vocabulary.has(token) && vocabulary.is_special(token);
}

std::optional<Token> Tokenizer::id(std::string_view token) const { return impl_->definition.vocabulary.find(token); }

}  // namespace pith
