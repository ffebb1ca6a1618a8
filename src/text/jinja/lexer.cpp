// SPDX-License-Identifier: MIT
// The rules are those of jinja2/lexer.py with trim_blocks and lstrip_blocks, written out as a scanner.
#include "text/jinja/lexer.hpp"

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "printable.hpp"
#include "text/jinja/characters.hpp"
#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

using Kind = Lexeme::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool in_name(char c) { return starts_name(c) || is_digit(c); }

int digit_of(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

class Lexer {
 public:
  explicit Lexer(const Source& source) : source_(source), text_(source.text()) {}

  std::vector<Lexeme> run() {
    while (at_ < text_.size()) root();
    put(Kind::end, at_);
    return std::move(out_);
  }

 private:
  bool ahead(std::string_view what, std::size_t at) const { return text_.substr(at, what.size()) == what; }
  bool ahead(std::string_view what) const { return ahead(what, at_); }
  char peek(std::size_t n = 0) const { return at_ + n < text_.size() ? text_[at_ + n] : '\0'; }

  Lexeme& put(Kind kind, std::size_t offset, std::string text = {}) {
    return out_.emplace_back(Lexeme{kind, offset, std::move(text)});
  }

  [[noreturn]] void fail(std::size_t offset, const std::string& message) const {
    source_.fail(ErrorCode::format, offset, message);
  }
  [[noreturn]] void unsupported(std::size_t offset, const std::string& message) const {
    source_.fail(ErrorCode::unsupported, offset, message + " is not supported");
  }

  void skip_space() { at_ += leading_space(text_.substr(at_)); }

  /// The sign that may follow the start of a tag.
  char take_sign() {
    const char sign = peek();
    if (sign != '-' && sign != '+') return '\0';
    ++at_;
    return sign;
  }

  /// The end of a tag, `close` being "%}", "}}" or "#}", with its sign and the whitespace that it takes.
  bool take_end(std::string_view close) {
    if (peek() == '-' && ahead(close, at_ + 1)) {
      at_ += 1 + close.size();
      skip_space();
    } else if (close != "}}" && peek() == '+' && ahead(close, at_ + 1)) {
      at_ += 1 + close.size();
    } else if (ahead(close)) {
      at_ += close.size();
      if (close != "}}" && peek() == '\n') ++at_;  // trim_blocks
    } else {
      return false;
    }
    line_starting_ = text_[at_ - 1] == '\n';
    return true;
  }

  /// Data up to a tag with this sign.
  void put_data(std::size_t begin, std::size_t end, char sign, bool strips_line) {
    std::string_view data = text_.substr(begin, end - begin);
    if (sign == '-') {
      data.remove_suffix(trailing_space(data));
    } else if (sign != '+' && strips_line) {  // lstrip_blocks
      const std::size_t line = data.rfind('\n') + 1;
      const std::string_view indent = data.substr(line);
      if ((line > 0 || line_starting_) && leading_space(indent) == indent.size()) data.remove_suffix(indent.size());
    }
    if (!data.empty()) put(Kind::data, begin, std::string(data));
  }

  void root() {
    const std::size_t begin = at_;
    std::size_t tag = begin;
    for (;; ++tag) {
      tag = text_.find('{', tag);
      if (tag == text_.npos || tag + 1 == text_.size()) {
        put(Kind::data, begin, std::string(text_.substr(begin)));
        at_ = text_.size();
        return;
      }
      const char second = text_[tag + 1];
      if (second == '%' || second == '{' || second == '#') break;
    }

    const char second = text_[tag + 1];
    at_ = tag + 2;
    const char sign = take_sign();
    put_data(begin, tag, sign, second != '{');
    line_starting_ = false;
    if (second == '#') return comment(tag);
    if (second == '{') {
      put(Kind::variable_begin, tag);
      return code(Kind::variable_end, "}}", tag);
    }
    if (raw_begins()) return raw(tag);
    put(Kind::block_begin, tag);
    code(Kind::block_end, "%}", tag);
  }

  void comment(std::size_t tag) {
    while (at_ < text_.size()) {
      if (take_end("#}")) return;
      ++at_;
    }
    fail(tag, "this comment has no end");
  }

  /// Takes "raw %}" where it follows.
  bool raw_begins() {
    const std::size_t back = at_;
    skip_space();
    if (ahead("raw")) {
      at_ += 3;
      skip_space();
      if (ahead("-%}")) {
        at_ += 3;
        skip_space();
        line_starting_ = text_[at_ - 1] == '\n';
        return true;
      }
      if (ahead("%}")) {
        at_ += 2;
        return true;
      }
    }
    at_ = back;
    return false;
  }

  void raw(std::size_t tag) {
    const std::size_t begin = at_;
    for (std::size_t next = text_.find("{%", begin); next != text_.npos; next = text_.find("{%", next + 1)) {
      at_ = next + 2;
      const char sign = take_sign();
      skip_space();
      if (!ahead("endraw")) continue;
      at_ += 6;
      skip_space();
      const bool line_started = line_starting_;
      if (!take_end("%}")) continue;
      const bool line_starts = std::exchange(line_starting_, line_started);
      put_data(begin, next, sign, true);
      line_starting_ = line_starts;
      return;
    }
    fail(tag, "this raw block has no end");
  }

  void code(Kind end, std::string_view close, std::size_t tag) {
    std::string open;  // the brackets that wait to be closed
    while (at_ < text_.size()) {
      const std::size_t offset = at_;
      if (open.empty() && take_end(close)) {
        put(end, offset);
        return;
      }
      const Character c = first_character(text_.substr(at_));
      if (is_space(c.code)) {
        at_ += c.bytes;
      } else if (is_digit(text_[at_])) {
        number();
      } else if (starts_name(text_[at_])) {
        while (in_name(peek())) ++at_;
        put(Kind::name, offset, std::string(text_.substr(offset, at_ - offset)));
        if (c.code < 0x80 && static_cast<unsigned char>(peek()) >= 0x80) letter_beyond_ascii();
      } else if (text_[at_] == '\'' || text_[at_] == '"') {
        string();
      } else if (c.code >= 0x80) {
        letter_beyond_ascii();
      } else {
        sign(open);
      }
    }
    fail(tag, "this tag has no end; expected " + in_quotes(close));
  }

  void letter_beyond_ascii() {
    const Character c = first_character(text_.substr(at_));
    if (is_space(c.code)) return;
    if (is_word(c.code)) unsupported(at_, "a name with a letter beyond ASCII");
    fail(at_, "unexpected character " + in_quotes(text_.substr(at_, c.bytes)));
  }

  void sign(std::string& open) {
    constexpr std::array<std::string_view, 26> signs = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/",
                                                        "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                        ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view sign : signs) {
      if (!ahead(sign)) continue;
      if (sign == "(") open += ')';
      if (sign == "[") open += ']';
      if (sign == "{") open += '}';
      if (sign == ")" || sign == "]" || sign == "}") {
        if (open.empty()) fail(at_, "unexpected " + in_quotes(sign));
        if (open.back() != sign[0])
          fail(at_, "expected " + in_quotes(open.substr(open.size() - 1)) + ", found " + in_quotes(sign));
        open.pop_back();
      }
      put(Kind::sign, at_, std::string(sign));
      at_ += sign.size();
      return;
    }
    fail(at_, "unexpected character " + in_quotes(text_.substr(at_, 1)));
  }

  /// Digits of a base, each perhaps after one "_"; the end of them.
  std::size_t digits(std::size_t at, int base) const {
    while (at < text_.size()) {
      const std::size_t digit = text_[at] == '_' ? at + 1 : at;
      if (digit >= text_.size() || digit_of(text_[digit]) >= base) break;
      at = digit + 1;
    }
    return at;
  }

  std::string without_underscores(std::size_t begin, std::size_t end) const {
    std::string out;
    for (const char c : text_.substr(begin, end - begin))
      if (c != '_') out += c;
    return out;
  }

  void number() {
    const std::size_t begin = at_;
    // A fraction or an exponent makes it a float; behind a dot ("x.1.2") it is none.
    if (begin == 0 || text_[begin - 1] != '.') {
      std::size_t end = digits(begin, 10);
      bool is_real = false;
      if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
        end = digits(end + 1, 10);
        is_real = true;
      }
      if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
        const std::size_t exponent =
            end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-') ? end + 2 : end + 1;
        if (exponent < text_.size() && is_digit(text_[exponent])) {
          end = digits(exponent, 10);
          is_real = true;
        }
      }
      if (is_real) {
        const std::string plain = without_underscores(begin, end);
        double value = 0;
        const auto [stop, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
        if (error != std::errc{} || stop != plain.data() + plain.size())
          unsupported(begin, "the number " + printable(plain));
        put(Kind::real, begin).real = value;
        at_ = end;
        return;
      }
    }

    int base = 10;
    std::size_t from = begin, end = begin;
    const char letter = static_cast<char>(peek(1) | 0x20);
    if (peek() == '0' && (letter == 'x' || letter == 'o' || letter == 'b')) {
      base = letter == 'x' ? 16 : letter == 'o' ? 8 : 2;
      end = digits(begin + 2, base);
      from = begin + 2;
    }
    if (end <= begin + 2) {
      base = 10;
      from = begin;
      end = digits(begin, text_[begin] == '0' ? 1 : 10);  // a number does not begin with 0, zero apart
    }
    const std::string plain = without_underscores(from, end);
    std::int64_t value = 0;
    const auto [stop, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value, base);
    if (error != std::errc{}) unsupported(begin, "an integer beyond 64 bits");
    put(Kind::integer, begin).integer = value;
    at_ = end;
  }

  void string() {
    const std::size_t begin = at_;
    const char quote = text_[at_++];
    std::string value;
    while (true) {
      if (at_ >= text_.size()) fail(begin, "this string has no end");
      const char c = text_[at_++];
      if (c == quote) break;
      if (c == '\\') {
        escape(value, begin);
      } else {
        value += c;
      }
    }
    put(Kind::string, begin, std::move(value));
  }

  /// What follows a backslash, as Python's unicode-escape reads it.
  void escape(std::string& value, std::size_t string_begin) {
    const std::size_t backslash = at_ - 1;
    if (at_ >= text_.size()) fail(string_begin, "this string has no end");
    const char c = text_[at_++];
    constexpr std::string_view names = "\n\\'\"abfnrtv", values = "\n\\'\"\a\b\f\n\r\t\v";
    if (c == '\n') return;
    if (const auto name = names.find(c); name != names.npos) {
      value += values[name];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      char32_t code = 0;
      for (std::size_t i = 0; i < length; ++i, ++at_) {
        const int digit = digit_of(peek());
        if (digit >= 16) fail(backslash, "expected " + std::to_string(length) + " hexadecimal digits after \\" + c);
        if (code < 0x1000000) code = code << 4 | static_cast<char32_t>(digit);
      }
      append_code(value, code, backslash);
    } else if (c >= '0' && c <= '7') {
      char32_t code = static_cast<char32_t>(c - '0');
      for (int i = 0; i < 2 && peek() >= '0' && peek() <= '7'; ++i)
        code = code << 3 | static_cast<char32_t>(text_[at_++] - '0');
      append_code(value, code, backslash);
    } else if (c == 'N') {
      unsupported(backslash, "a character by its name");
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      unsupported(backslash, "a backslash before a character beyond ASCII");
    } else {
      value += '\\';
      value += c;
    }
  }

  void append_code(std::string& value, char32_t code, std::size_t offset) const {
    if (code > 0x10ffff) fail(offset, "expected a character up to \\U0010ffff");
    if (code >= 0xd800 && code <= 0xdfff) unsupported(offset, "half of a surrogate pair");
    append(value, code);
  }

  const Source& source_;
  std::string_view text_;
  std::size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Lexeme> out_;
};

}  // namespace

std::vector<Lexeme> tokenize(const Source& source) { return Lexer(source).run(); }

}  // namespace pith::text::jinja
