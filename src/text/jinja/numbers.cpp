// SPDX-License-Identifier: MIT
#include "text/jinja/numbers.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <string>

#include "text/jinja/characters.hpp"

namespace pith::text::jinja {

namespace {

/// Without whitespace at its ends; underscores only between digits, and taken away.
std::optional<std::string> trimmed(std::string_view text) {
  text.remove_prefix(leading_space(text));
  text.remove_suffix(trailing_space(text));
  std::string out;
  const auto is_digit = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return {};
    }
  }
  return out;
}

template <class T, class... Options>
std::optional<T> read(std::string_view text, Options... options) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, options...);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  const auto plain = trimmed(text);
  if (!plain || plain->empty()) return {};
  std::string_view digits = *plain;
  if (digits[0] == '+') {
    digits.remove_prefix(1);
    if (digits.starts_with('-')) return {};
  }
  return read<std::int64_t>(digits, base);
}

std::optional<double> parse_real(std::string_view text) {
  const auto plain = trimmed(text);
  if (!plain || plain->empty()) return {};
  std::string_view digits = *plain;
  const bool negative = digits[0] == '-';
  if (digits[0] == '+' || digits[0] == '-') digits.remove_prefix(1);
  if (digits.empty() || digits[0] == '-' || digits.find('(') != digits.npos) return {};  // "nan(...)" is C's
  const auto value = read<double>(digits);
  if (!value) return {};
  return negative ? -*value : *value;
}

double round_to(double value, int digits) {
  if (!std::isfinite(value)) return value;
  std::array<char, 400> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed, digits).ptr;
  double out = 0;
  std::from_chars(buffer.data(), end, out);
  return out;
}

}  // namespace pith::text::jinja
