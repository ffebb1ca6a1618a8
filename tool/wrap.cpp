// SPDX-License-Identifier: MIT
#include "wrap.hpp"

#include <sys/ioctl.h>
#include <unistd.h>
#include <clocale>
#include <cwchar>

#include <algorithm>
#include <utility>

namespace pith::tool {

namespace {

/// Bytes of the character that a text in UTF-8 begins with.
std::size_t first_character(std::string_view text) {
  const auto byte = static_cast<unsigned char>(text[0]);
  return std::min<std::size_t>(byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4, text.size());
}

/// Columns that a character takes: 2 for a wide one, 0 for a mark.
std::size_t width(std::string_view character) {
  const auto byte = static_cast<unsigned char>(character[0]);
  auto code = static_cast<char32_t>(character.size() == 1 ? byte : byte & (0x7f >> character.size()));
  for (const char c : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3f);
  static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", locale_t{});
  const locale_t before = utf8 != locale_t{} ? uselocale(utf8) : locale_t{};
  const int columns = wcwidth(static_cast<wchar_t>(code));
  if (before != locale_t{}) uselocale(before);
  return static_cast<std::size_t>(std::max(0, columns));
}

}  // namespace

std::string Wrap::push(std::string_view text) {
  if (columns_ == 0) return std::string(text);
  std::string out;
  while (!text.empty()) {
    const std::string_view character = text.substr(0, first_character(text));
    text.remove_prefix(character.size());
    if (character == "\n") {
      out += flush() + '\n';
    } else if (character == " ") {
      end_word(out);
      blanks_ += ' ';
    } else {
      // Scripts of wide characters break anywhere, as do words that no line holds.
      const std::size_t wide = width(character);
      if (wide > 1 || word_columns_ + wide > columns_) end_word(out);
      word_ += character;
      word_columns_ += wide;
      if (wide > 1) end_word(out);
    }
  }
  return out;
}

void Wrap::end_word(std::string& out) {
  if (word_.empty()) return;
  if (column_ > 0 && column_ + blanks_.size() + word_columns_ > columns_) {
    out += '\n';
    column_ = 0;
  } else {
    out += blanks_;
    column_ += blanks_.size();
  }
  blanks_.clear();
  out += std::exchange(word_, {});
  column_ += std::exchange(word_columns_, 0);
}

std::string Wrap::flush() {
  std::string out;
  end_word(out);
  blanks_.clear();
  column_ = 0;
  return out;
}

std::size_t terminal_columns() {
  winsize size{};
  if (isatty(STDOUT_FILENO) != 1 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

}  // namespace pith::tool
