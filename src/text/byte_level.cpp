// SPDX-License-Identifier: MIT
#include "text/byte_level.hpp"

#include <array>

#include "text/unicode.hpp"

namespace pith::text {

namespace {

constexpr std::string_view hex_digits = "0123456789ABCDEF";
constexpr char32_t first_spare = 0x100;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct Alphabet {
  std::array<std::string, 256> symbol_of;
  std::array<int, first_spare + 256> byte_of;  // -1: no byte's character

  Alphabet() {
    byte_of.fill(-1);
    char32_t spare = first_spare;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const char32_t code = stands_for_itself(byte) ? byte : spare++;
      append(symbol_of[byte], code);
      byte_of[code] = static_cast<int>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet one;
  return one;
}

}  // namespace

std::string to_byte_symbols(std::string_view bytes) {
  const auto& symbols = alphabet().symbol_of;
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 4);
  for (const char byte : bytes) out += symbols[static_cast<unsigned char>(byte)];
  return out;
}

std::optional<std::string> from_byte_symbols(std::string_view symbols) {
  const auto& byte_of = alphabet().byte_of;
  std::string out;
  out.reserve(symbols.size());
  while (!symbols.empty()) {
    const Character c = first_character(symbols);
    if (c.code >= byte_of.size() || byte_of[c.code] < 0) return {};
    out += static_cast<char>(byte_of[c.code]);
    symbols.remove_prefix(c.bytes);
  }
  return out;
}

std::string byte_token(unsigned char byte) {
  return {'<', '0', 'x', hex_digits[byte >> 4], hex_digits[byte & 15u], '>'};
}

std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return {};
  unsigned byte = 0;
  for (char digit : token.substr(3, 2)) {
    if (digit >= 'a' && digit <= 'f') digit = static_cast<char>(digit - 'a' + 'A');
    const auto value = hex_digits.find(digit);
    if (value == hex_digits.npos) return {};
    byte = byte * 16 + static_cast<unsigned>(value);
  }
  return static_cast<char>(byte);
}

}  // namespace pith::text
