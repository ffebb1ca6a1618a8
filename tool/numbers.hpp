// SPDX-License-Identifier: MIT
// Numbers as they are typed: decimal, exact, within a range, and refused in words that name it.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

namespace pith::tool {

/// From `least` to `most`, both in it unless `above`: then `least` is not.
template <class T>
struct Range {
  T least = std::numeric_limits<T>::lowest();
  T most = std::numeric_limits<T>::max();
  bool above = false;

  bool holds(T value) const { return (above ? value > least : value >= least) && value <= most; }
};

template <class T>
Range<T> at_least(T least) {
  return {.least = least};
}

/// "a whole number from 0 to 99", "a number above 0, at most 1"
template <class T>
std::string text(const Range<T>& range) {
  std::ostringstream out;
  out << (std::integral<T> ? "a whole number" : "a number") << (range.above ? " above " : " from ") << range.least
      << (range.above ? ", at most " : " to ") << range.most;
  return out.str();
}

/// The number that the whole word spells in decimal, if it is within the range. Infinities where the range has them.
template <class T>
std::optional<T> number(const std::string& word, const Range<T>& range = {}) {
  std::conditional_t<std::integral<T>, T, double> value{};
  const char* const end = word.data() + word.size();
  const auto [past, error] = std::from_chars(word.data(), end, value);
  if (error != std::errc() || past != end) return std::nullopt;
  if constexpr (std::floating_point<T>) {
    constexpr double largest = std::numeric_limits<T>::max();
    if (std::isnan(value) || (std::isfinite(value) && std::abs(value) > largest)) return std::nullopt;
  }
  const T rounded = static_cast<T>(value);
  return range.holds(rounded) ? std::optional(rounded) : std::nullopt;
}

}  // namespace pith::tool
