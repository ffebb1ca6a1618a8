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

/// Which tokens may stand where in a text that a chat template wrote.
class ChatGuard {
 public:
  using Ranges = std::vector<text::Range>;

  ChatGuard(Ranges data, const ChatTemplate& by) : data_(std::move(data)), by_(&by) {}

  /// Whether these bytes may be this token: not where a conversation brought any of them, but for tokens that stand for
  /// text like any other.
  bool allows(const text::AddedToken& token, text::Range range) const {
    const auto first = std::lower_bound(data_.begin(), data_.end(), range.begin,
                                        [](const text::Range& data, std::size_t at) { return data.end <= at; });
    return first == data_.end() || first->begin >= range.end || !controls(token);
  }

  /// Special tokens, and those that the template spells; but whitespace is text in a template, too.
  bool controls(const text::AddedToken& token) const {
    if (token.special) return true;
    return text::leading_whitespace(token.content) < token.content.size() && by_->writes(token.content);
  }

  /// The same for a part of the text that has been normalized. What a normalizer makes of the text up to a place is how
  /// far that place has moved; where it is not (a mark that joins the character before), the rest counts as data.
  ChatGuard within(text::Range part, std::string_view text, const text::Normalizer& normalizer, text::Place place,
                   const std::string& normalized) const {
    const auto moved = [&](std::size_t at, std::size_t otherwise) {
      if (at >= part.end) return normalized.size();
      const std::string before = normalizer(std::string(text.substr(part.begin, at - part.begin)), place);
      return normalized.starts_with(before) ? before.size() : otherwise;
    };
    Ranges out;
    for (const text::Range data : data_) {
      if (data.end <= part.begin || data.begin >= part.end) continue;
      const std::size_t begin = data.begin <= part.begin ? 0 : moved(data.begin, 0);
      const std::size_t end = moved(data.end, normalized.size());
      if (!out.empty() && out.back().end >= begin) {
        out.back().end = std::max(out.back().end, end);
      } else if (end > begin) {
        out.push_back({begin, end});
      }
    }
    return {std::move(out), *by_};
  }

 private:
  Ranges data_;  // in order, apart
  const ChatTemplate* by_;
};

/// Encodes one text: what can be used again from word to word.
class Encoder {
 public:
  /// `chat`: for a text that a chat template wrote.
  Encoder(const Tokenizer::Impl& impl, std::vector<Token>& out, const ChatGuard* chat = nullptr)
      : impl_(impl), out_(out), chat_(chat) {}

  /// All of a text, which begins at `place`.
  void add(std::string_view text, const Tokenizer::Impl::Finders& finders, text::Place place = text::Place::start) {
    const auto& normalizer = impl_.definition.normalizer;
    text::TokenFinder::Allows allows;
    if (chat_ != nullptr)
      allows = [chat = chat_](const text::AddedToken& token, text::Range range) { return chat->allows(token, range); };
    for (const text::Part& raw : finders.raw.split(text, allows)) {
      if (raw.token) {
        out_.push_back(*raw.token);
        continue;
      }
      const text::Place here = raw.range.begin == 0 ? place : text::Place::inside;
      const std::string normalized = normalizer(std::string(raw.range.of(text)), here);
      std::optional<ChatGuard> inner;
      if (chat_ != nullptr && !finders.normalized.empty()) {
        inner = chat_->within(raw.range, text, normalizer, here, normalized);
        allows = [&inner](const text::AddedToken& token, text::Range range) { return inner->allows(token, range); };
      }
      for (const text::Part& part : finders.normalized.split(normalized, allows)) {
        if (part.token) {
          out_.push_back(*part.token);
        } else {
          add_words(std::string(part.range.of(normalized)), part.range.begin == 0 ? here : text::Place::inside);
        }
      }
    }
  }

 private:
  void add_words(std::string text, text::Place place) {
    const text::Words words = impl_.definition.pre_tokenizer(std::move(text), place);
    for (const text::Range range : words.words) add_word(range.of(words.text));
  }

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
    if (const auto cuts = chat_ != nullptr ? forgeries(word, begin) : std::vector<std::size_t>(); !cuts.empty()) {
      out_.resize(begin);
      std::size_t from = 0;
      for (const std::size_t cut : cuts) {
        add_word(word.substr(from, cut - from));
        from = cut;
      }
      return add_word(word.substr(from));
    }
    cache_.add(word, std::span(out_).subspan(begin));
  }

  /// Where to cut a word of a chat so that no token of it controls: a word is text, and the tokens from `begin` on hold
  /// one that merging has made. Within each spelling of it; empty where there is none.
  std::vector<std::size_t> forgeries(std::string_view word, std::size_t begin) const {
    std::vector<std::size_t> cuts;
    for (std::size_t i = begin; i < out_.size() && cuts.empty(); ++i) {
      const auto added = impl_.added.find(out_[i]);
      if (added == impl_.added.end() || !chat_->controls(impl_.definition.added[added->second])) continue;
      const std::string_view spelling = impl_.definition.vocabulary.text(out_[i]);
      const std::size_t first = text::first_character(spelling).bytes;
      if (first == spelling.size()) continue;
      for (auto at = word.find(spelling); at != word.npos; at = word.find(spelling, at + first))
        cuts.push_back(at + first);
    }
    return cuts;
  }

  const Tokenizer::Impl& impl_;
  std::vector<Token>& out_;
  const ChatGuard* chat_;
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

Tokenizer::Impl::Impl(Definition what, std::filesystem::path from)
    : definition(std::move(what)), path_(std::move(from)) {
  for (std::size_t i = 0; i < definition.added.size(); ++i) added.emplace(definition.added[i].id, i);
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
  return Tokenizer(std::make_shared<const Impl>(pith::load(path, options), path));
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

  Encoder(*impl_, out).add(text, finders);
  if (adds) out.insert(out.end(), definition.suffix.begin(), definition.suffix.end());
  return out;
}

std::vector<Token> Tokenizer::encode(const ChatText& chat, const ChatTemplate& by) const {
  if (!text::is_utf8(chat.text)) fail(ErrorCode::argument, "chat", "text in UTF-8", "other bytes");
  ChatGuard::Ranges data;
  for (const auto& range : chat.data) {
    if (range.begin >= range.end || range.end > chat.text.size() || (!data.empty() && range.begin < data.back().end))
      fail(ErrorCode::argument, "chat", "ranges of data in order, within the text", "others");
    data.push_back({range.begin, range.end});
  }
  const ChatGuard guard(std::move(data), by);
  std::vector<Token> out;
  out.reserve(chat.text.size() / 3 + 2);
  Encoder(*impl_, out, &guard)
      .add(chat.text, impl_->all_tokens, chat.begins_text ? text::Place::start : text::Place::after_text);
  return out;
}

std::vector<Token> Tokenizer::chat(const std::vector<Message>& messages, const ChatOptions& options) const {
  const ChatTemplate& by = chat_template();
  return encode(by.render(messages, options), by);
}

std::vector<Token> Tokenizer::chat_json(std::string_view messages_json, const ChatOptions& options) const {
  const ChatTemplate& by = chat_template();
  return encode(by.render_json(messages_json, options), by);
}

const ChatTemplate& Tokenizer::chat_template() const { return impl_->chat_template(); }

const ChatTemplate& Tokenizer::Impl::chat_template() const {
  std::call_once(chat_template_once_, [&] { chat_template_ = ChatTemplate::load(path_); });
  return *chat_template_;
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
