// SPDX-License-Identifier: MIT
#include "text/unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "pith/error.hpp"

namespace pith::text {

namespace {

constexpr char32_t replacement = 0xfffd;

unsigned char byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

utf8proc_category_t category(char32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

/// How many bytes at the start are ASCII.
std::size_t ascii_prefix(std::string_view text) {
  constexpr std::uint64_t high_bits = 0x8080808080808080u;
  std::size_t i = 0;
  for (; i + sizeof(std::uint64_t) <= text.size(); i += sizeof(std::uint64_t)) {
    std::uint64_t eight;
    std::memcpy(&eight, text.data() + i, sizeof(eight));
    if ((eight & high_bits) != 0) break;
  }
  while (i < text.size() && byte_at(text, i) < 0x80) ++i;
  return i;
}

/// What the first byte of a character promises: the number of bytes after it, and the range of the first of these
/// (the Unicode Standard, table 3-7).
struct Lead {
  std::size_t more;
  unsigned char low, high;
};

Lead lead_of(unsigned char byte) {
  if (byte >= 0xc2 && byte <= 0xdf) return {1, 0x80, 0xbf};
  if (byte == 0xe0) return {2, 0xa0, 0xbf};
  if (byte == 0xed) return {2, 0x80, 0x9f};
  if (byte >= 0xe1 && byte <= 0xef) return {2, 0x80, 0xbf};
  if (byte == 0xf0) return {3, 0x90, 0xbf};
  if (byte >= 0xf1 && byte <= 0xf3) return {3, 0x80, 0xbf};
  if (byte == 0xf4) return {3, 0x80, 0x8f};
  return {0, 0, 0};
}

}  // namespace

Character first_character(std::string_view text) {
  const unsigned char first = byte_at(text, 0);
  if (first < 0x80) return {first, 1, Character::State::whole};

  const Lead lead = lead_of(first);
  if (lead.more == 0) return {replacement, 1, Character::State::ill_formed};
  char32_t code = first & (0x3fu >> lead.more);
  for (std::size_t i = 1; i <= lead.more; ++i) {
    if (i == text.size()) return {replacement, i, Character::State::unfinished};
    const unsigned char next = byte_at(text, i);
    const unsigned char low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xbf;
    if (next < low || next > high) return {replacement, i, Character::State::ill_formed};
    code = code << 6 | (next & 0x3fu);
  }
  return {code, lead.more + 1, Character::State::whole};
}

void append(std::string& out, char32_t code) {
  const auto tail = [&](unsigned shift) { out += static_cast<char>(0x80u | (code >> shift & 0x3fu)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0u | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0u | code >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0u | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_utf8(std::string_view text) {
  while (true) {
    text.remove_prefix(ascii_prefix(text));
    if (text.empty()) return true;
    const Character c = first_character(text);
    if (c.state != Character::State::whole) return false;
    text.remove_prefix(c.bytes);
  }
}

std::string repair(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const Character c = first_character(bytes);
    if (c.state == Character::State::whole) {
      out.append(bytes.substr(0, c.bytes));
    } else {
      append(out, replacement);
    }
    bytes.remove_prefix(c.bytes);
  }
  return out;
}

std::size_t unfinished_bytes(std::string_view bytes) {
  for (std::size_t n = 1; n <= std::min<std::size_t>(3, bytes.size()); ++n) {
    const auto tail = bytes.substr(bytes.size() - n);
    if (lead_of(byte_at(tail, 0)).more == 0) continue;
    const Character c = first_character(tail);
    return c.state == Character::State::unfinished && c.bytes == n ? n : 0;
  }
  return 0;
}

bool is_whitespace(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r');
  if (code == 0x85) return true;
  const auto c = category(code);
  return c == UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) {
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
           (code >= '{' && code <= '~');
  }
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_number(char32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool is_word(char32_t code) {
  const auto c = category(code);
  return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NL) || c == UTF8PROC_CATEGORY_PC;
}

bool is_mark(char32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

bool is_printable(char32_t code) {
  const auto c = category(code);
  return code == ' ' || (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_SO);
}

bool is_cased(char32_t code) {
  const auto c = category(code);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LT;
}

bool is_lower(char32_t code) { return category(code) == UTF8PROC_CATEGORY_LL; }

bool is_decimal(char32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }

char32_t to_upper(char32_t code) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code)));
}

char32_t to_lower(char32_t code) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

char32_t to_title(char32_t code) {
  return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code)));
}

std::size_t columns(char32_t code) {
  return static_cast<std::size_t>(std::max(0, utf8proc_charwidth(static_cast<utf8proc_int32_t>(code))));
}

std::string normalize(std::string_view text, Form form) {
  if (ascii_prefix(text) == text.size()) return std::string(text);  // every form leaves ASCII alone

  int options = UTF8PROC_STABLE;
  options |= form == Form::nfc || form == Form::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == Form::nfkc || form == Form::nfkd) options |= UTF8PROC_COMPAT;

  utf8proc_uint8_t* raw = nullptr;
  const auto n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &raw, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(raw, &std::free);
  if (n < 0) fail(ErrorCode::argument, "text", "text that Unicode can normalize", utf8proc_errmsg(n));
  return {reinterpret_cast<const char*>(raw), static_cast<std::size_t>(n)};
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = first_character(text);
    text.remove_prefix(c.bytes);
    append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code))));
    // The one letter whose lower case is two characters: a dotted capital I keeps its dot.
    if (c.code == 0x130) append(out, 0x307);
  }
  return out;
}

std::size_t leading_whitespace(std::string_view text) {
  std::size_t n = 0;
  while (n < text.size()) {
    const Character c = first_character(text.substr(n));
    if (!is_whitespace(c.code)) break;
    n += c.bytes;
  }
  return n;
}

std::size_t trailing_whitespace(std::string_view text) {
  std::size_t n = 0;
  while (n < text.size()) {
    std::size_t start = text.size() - n - 1;
    while (start > 0 && (byte_at(text, start) & 0xc0u) == 0x80) --start;
    if (!is_whitespace(first_character(text.substr(start)).code)) break;
    n = text.size() - start;
  }
  return n;
}

}  // namespace pith::text
