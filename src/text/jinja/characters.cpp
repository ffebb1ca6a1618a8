// SPDX-License-Identifier: MIT
#include "text/jinja/characters.hpp"

#include <algorithm>

#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xc0u) == 0x80; }

bool ends_line(char32_t code) {
  return (code >= '\n' && code <= '\r') || (code >= 0x1c && code <= 0x1e) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

}  // namespace

bool is_space(char32_t code) { return is_whitespace(code) || (code >= 0x1c && code <= 0x1f); }

std::size_t leading_space(std::string_view text) {
  std::size_t n = 0;
  while (n < text.size()) {
    const Character c = first_character(text.substr(n));
    if (!is_space(c.code)) break;
    n += c.bytes;
  }
  return n;
}

std::size_t trailing_space(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0) {
    std::size_t start = end - 1;
    while (start > 0 && continues(text[start])) --start;
    if (!is_space(first_character(text.substr(start)).code)) break;
    end = start;
  }
  return text.size() - end;
}

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> out;
  out.reserve(text.size() + 1);
  for (std::size_t i = 0; i < text.size(); ++i)
    if (!continues(text[i])) out.push_back(i);
  out.push_back(text.size());
  return out;
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
}

std::vector<Range> split_lines(std::string_view text) {
  std::vector<Range> out;
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size();) {
    const Character c = first_character(text.substr(i));
    const std::size_t end = i;
    i += c.bytes;
    if (!ends_line(c.code)) continue;
    if (c.code == '\r' && i < text.size() && text[i] == '\n') ++i;
    out.push_back({start, end});
    start = i;
  }
  if (start < text.size()) out.push_back({start, text.size()});
  return out;
}

std::size_t find_text(std::string_view text, std::string_view what, std::size_t from) {
  constexpr std::size_t small = 64;
  if (what.size() <= small) return text.find(what, from);
  if (from > text.size() || text.size() - from < what.size()) return text.npos;

  // Knuth, Morris and Pratt: borders[i] is the length of the longest proper border of the first i + 1 bytes.
  std::vector<std::size_t> borders(what.size(), 0);
  for (std::size_t i = 1, n = 0; i < what.size(); ++i) {
    while (n > 0 && what[i] != what[n]) n = borders[n - 1];
    if (what[i] == what[n]) ++n;
    borders[i] = n;
  }
  for (std::size_t i = from, n = 0; i < text.size(); ++i) {
    while (n > 0 && text[i] != what[n]) n = borders[n - 1];
    if (text[i] == what[n]) ++n;
    if (n == what.size()) return i + 1 - n;
  }
  return text.npos;
}

}  // namespace pith::text::jinja
