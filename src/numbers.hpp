// SPDX-License-Identifier: MIT
// Numbers as they are typed: decimal, exact, within a range, and refused in words that name it.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

namespace pith {

/// From `least` to `most`, both in it unless `above`: then `least` is not.
template <class T>
struct Range {
  T least = std::numeric_limits<T>::lowest();
  T most = std::numeric_limits<T>::max();
  bool above = false;

  bool holds(T value) const { return (above ? value > least : value >= least) && value <= most; }

  /// "a whole number from 0 to 99", "a number above 0, at most 1"
  std::string text() const {
    std::ostringstream out;
    out << (std::integral<T> ? "a whole number" : "a number") << (above ? " above " : " from ") << least
        << (above ? ", at most " : " to ") << most;
    return out.str();
  }
};

template <class T>
Range<T> at_least(T least) {
  return {.least = least};
}

/// The number that the whole word spells in decimal, if it is within the range. Infinities where the range has them;
/// what is too small for a float is 0.
template <class T>
std::optional<T> number(std::string_view word, const Range<T>& range = {}) {
  const auto read = [&](auto& value) {
    const auto [past, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    return past == word.data() + word.size() ? error : std::errc::invalid_argument;
  };
  T value{};
  std::errc error = read(value);
  if constexpr (std::floating_point<T>) {
    if (double wide{}; error == std::errc::result_out_of_range && read(wide) == std::errc() && std::abs(wide) < 1) {
      value = static_cast<T>(wide);
      error = {};
    }
    if (std::isnan(value)) return std::nullopt;
  }
  return error == std::errc() && range.holds(value) ? std::optional(value) : std::nullopt;
}

}  // namespace pith
