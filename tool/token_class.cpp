// SPDX-License-Identifier: MIT
#include "token_class.hpp"

#include <algorithm>
#include <string>

namespace pith::tool {

namespace {

/// Articles, pronouns, prepositions, conjunctions, auxiliaries, particles; sorted.
constexpr std::string_view function_words[] = {
    "a",          "about",   "above",      "across",  "after",  "against", "ain't",    "all",        "along",
    "although",   "am",      "among",      "an",      "and",    "another", "any",      "are",        "around",
    "as",         "at",      "be",         "because", "been",   "before",  "behind",   "being",      "below",
    "beneath",    "beside",  "besides",    "between", "beyond", "both",    "but",      "by",         "can",
    "can't",      "cannot",  "could",      "did",     "do",     "does",    "doing",    "done",       "down",
    "during",     "each",    "either",     "ere",     "every",  "few",     "for",      "from",       "had",
    "has",        "hast",    "hath",       "have",    "having", "he",      "her",      "hers",       "herself",
    "him",        "himself", "his",        "how",     "i",      "if",      "in",       "into",       "is",
    "it",         "its",     "itself",     "lest",    "like",   "many",    "may",      "me",         "might",
    "mine",       "more",    "most",       "much",    "must",   "my",      "myself",   "near",       "neither",
    "no",         "nor",     "not",        "of",      "off",    "on",      "once",     "one",        "only",
    "onto",       "or",      "other",      "others",  "ought",  "our",     "ours",     "ourselves",  "out",
    "over",       "own",     "per",        "shall",   "shan't", "she",     "should",   "since",      "so",
    "some",       "such",    "than",       "that",    "the",    "thee",    "their",    "theirs",     "them",
    "themselves", "then",    "there",      "these",   "they",   "thine",   "this",     "those",      "thou",
    "though",     "through", "throughout", "thus",    "thy",    "till",    "to",       "too",        "toward",
    "towards",    "under",   "unless",     "until",   "unto",   "up",      "upon",     "us",         "very",
    "was",        "we",      "were",       "what",    "when",   "where",   "whereas",  "whether",    "which",
    "while",      "who",     "whom",       "whose",   "why",    "will",    "with",     "within",     "without",
    "won't",      "would",   "yet",        "you",     "your",   "yours",   "yourself", "yourselves",
};
static_assert(std::ranges::is_sorted(function_words));

/// Words whose full stop ends no sentence, beside single letters; sorted.
constexpr std::string_view abbreviations[] = {"capt", "col", "dr", "esq", "etc",  "fig", "gen", "hon", "lt",
                                              "mr",   "mrs", "ms", "no",  "prof", "rev", "st",  "vol", "vs"};
static_assert(std::ranges::is_sorted(abbreviations));

constexpr std::string_view closing_signs[] = {"\"", "'", ")", "]", "}", "”", "’", "»"};
constexpr std::string_view opening_signs[] = {"\"", "'", "(", "[", "“", "‘", "«"};

enum class Kind { blank, small, capital, digit, sign };

struct Character {
  Kind kind = Kind::sign;
  std::string_view bytes;
};

Kind kind_of_ascii(char c) {
  if (c >= 'a' && c <= 'z') return Kind::small;
  if (c >= 'A' && c <= 'Z') return Kind::capital;
  if (c >= '0' && c <= '9') return Kind::digit;
  return c == ' ' || (c >= '\t' && c <= '\r') ? Kind::blank : Kind::sign;
}

/// Beyond ASCII: the signs of Latin-1 and the blocks of general and of CJK punctuation are signs; the capitals of
/// Latin-1 are capitals; all else are small letters.
Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {kind_of_ascii(text[at]), text.substr(at, 1)};
  std::size_t n = 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  while (n < length && (byte(n) & 0xc0) == 0x80) ++n;
  const unsigned code = n < length    ? 0
                        : length == 2 ? (lead & 0x1f) << 6 | (byte(1) & 0x3f)
                        : length == 3 ? (lead & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f)
                                      : 0;
  Kind kind = Kind::small;
  if (code == 0xa0 || (code >= 0x2000 && code <= 0x200a) || code == 0x3000)
    kind = Kind::blank;
  else if ((code >= 0xa1 && code <= 0xbf) || (code >= 0x2010 && code <= 0x205e) || (code > 0x3000 && code <= 0x303f))
    kind = Kind::sign;
  else if (code >= 0xc0 && code <= 0xde && code != 0xd7)
    kind = Kind::capital;
  return {kind, text.substr(at, n)};
}

bool is_letter(Kind kind) { return kind == Kind::small || kind == Kind::capital; }

bool is_one_of(std::string_view sign, std::span<const std::string_view> signs) {
  return std::ranges::find(signs, sign) != signs.end();
}

bool is_apostrophe(std::string_view sign) { return sign == "'" || sign == "’"; }

/// ASCII in small letters, with the typewriter's apostrophe.
std::string folded(std::string_view word) {
  std::string out;
  for (std::size_t at = 0; at < word.size();) {
    const Character c = character_at(word, at);
    at += c.bytes.size();
    if (c.bytes == "’")
      out += '\'';
    else if (c.kind == Kind::capital && c.bytes.size() == 1)
      out += static_cast<char>(c.bytes[0] - 'A' + 'a');
    else
      out += c.bytes;
  }
  return out;
}

bool is_function_word(std::string_view word) {
  const std::string whole = folded(word);
  const auto listed = [](std::string_view w) { return std::ranges::binary_search(function_words, w); };
  const std::size_t apostrophe = whole.find('\'');
  if (listed(whole)) return true;
  if (whole.ends_with("n't")) return listed(std::string_view(whole).substr(0, whole.size() - 3));
  return apostrophe != std::string::npos && listed(std::string_view(whole).substr(0, apostrophe));
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text), classes_(text.size(), TokenClass::blank) {}

  /// The class of each byte.
  std::vector<TokenClass> read() {
    while (at_ < text_.size()) {
      const Kind kind = here().kind;
      if (kind == Kind::blank)
        read_blanks();
      else if (kind == Kind::digit)
        read_number();
      else if (kind == Kind::sign)
        read_sign();
      else
        read_word();
    }
    return std::move(classes_);
  }

 private:
  Character here() const { return character_at(text_, at_); }
  bool holds(std::size_t at, auto predicate) const { return at < text_.size() && predicate(character_at(text_, at)); }

  void become(std::size_t past, TokenClass kind) {
    std::fill(classes_.begin() + static_cast<std::ptrdiff_t>(at_), classes_.begin() + static_cast<std::ptrdiff_t>(past),
              kind);
    at_ = past;
  }

  void read_blanks() {
    int lines = 0;
    for (; at_ < text_.size() && here().kind == Kind::blank; at_ += here().bytes.size()) lines += text_[at_] == '\n';
    begins_sentence_ = begins_sentence_ || lines > 1;
    after_blank_ = true;
    last_word_ = {};
  }

  /// 1,250.75 and 10:30 are one, and so is 19th.
  void read_number() {
    std::size_t past = at_;
    while (past < text_.size()) {
      const Character c = character_at(text_, past);
      const bool between = c.bytes == "." || c.bytes == "," || c.bytes == ":";
      if (c.kind != Kind::digit && !is_letter(c.kind) &&
          !(between && holds(past + 1, [](const Character& next) { return next.kind == Kind::digit; })))
        break;
      past += c.bytes.size();
    }
    become(past, TokenClass::number);
    begins_sentence_ = after_blank_ = false;
    last_word_ = {};
  }

  void read_word() {
    std::size_t past = at_;
    while (past < text_.size()) {
      const Character c = character_at(text_, past);
      const bool inside = is_apostrophe(c.bytes) &&
                          holds(past + c.bytes.size(), [](const Character& next) { return is_letter(next.kind); });
      if (!is_letter(c.kind) && c.kind != Kind::digit && !inside) break;
      past += c.bytes.size();
    }
    last_word_ = text_.substr(at_, past - at_);
    const bool capital = here().kind == Kind::capital;
    become(past, is_function_word(last_word_)   ? TokenClass::function_word
                 : capital && !begins_sentence_ ? TokenClass::name
                                                : TokenClass::word);
    begins_sentence_ = after_blank_ = false;
  }

  void read_sign() {
    std::size_t past = at_;
    while (holds(
        past, [](const Character& c) { return c.bytes == "." || c.bytes == "!" || c.bytes == "?" || c.bytes == "…"; }))
      past += character_at(text_, past).bytes.size();
    if (past > at_) {
      const bool ends = ends_sentence(past);
      become(past, ends ? TokenClass::sentence_end : TokenClass::punctuation);
      begins_sentence_ = begins_sentence_ || ends;
    } else {
      const std::string_view sign = here().bytes;
      begins_sentence_ = begins_sentence_ || (after_blank_ && is_one_of(sign, opening_signs));
      become(at_ + sign.size(), TokenClass::punctuation);
    }
    after_blank_ = false;
    last_word_ = {};
  }

  /// Do the signs that end at `past` end a sentence?
  bool ends_sentence(std::size_t past) const {
    const std::string word = folded(last_word_);
    if (text_.substr(at_, past - at_) == "." && (word.size() == 1 || std::ranges::binary_search(abbreviations, word)))
      return false;
    while (holds(past, [](const Character& c) { return is_one_of(c.bytes, closing_signs); }))
      past += character_at(text_, past).bytes.size();
    if (holds(past, [](const Character& c) { return c.kind != Kind::blank; })) return false;
    while (holds(past, [](const Character& c) { return c.kind == Kind::blank || c.kind == Kind::sign; }))
      past += character_at(text_, past).bytes.size();
    return !holds(past, [](const Character& c) { return c.kind == Kind::small; });
  }

  std::string_view text_;
  std::vector<TokenClass> classes_;
  std::size_t at_ = 0;
  bool begins_sentence_ = true;  // would the next word begin one (or a quotation)?
  bool after_blank_ = true;
  std::string_view last_word_;  // where nothing stands between it and here
};

}  // namespace

std::vector<TokenClass> classify(std::span<const Token> tokens, const Tokenizer& tokenizer) {
  std::string text;
  for (const Token token : tokens) text += tokenizer.piece(token);
  const std::vector<TokenClass> of_bytes = Reader(text).read();
  std::vector<TokenClass> classes;
  std::size_t at = 0;
  for (const Token token : tokens) {
    const std::size_t past = at + tokenizer.piece(token).size();
    TokenClass kind = at == past ? TokenClass::special : TokenClass::blank;
    for (; at < past; ++at)
      if (kind == TokenClass::blank) kind = of_bytes[at];
    classes.push_back(kind);
  }
  return classes;
}

}  // namespace pith::tool
