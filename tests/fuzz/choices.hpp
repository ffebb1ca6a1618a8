// SPDX-License-Identifier: MIT
// A fuzz input as choices that are made one after another: bytes that are left out are zeros, so every input is one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <vector>

#include "pith/error.hpp"

namespace pith::test {

/// What a fuzz target promises; the program ends where that does not hold, and says what.
inline void hold(bool holds, const char* law) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", law);
  std::abort();
}

/// An expression makes one choice at most where the language leaves open which argument comes first: an input is the
/// same calls by every compiler.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

  bool empty() const { return left_.empty(); }
  std::span<const std::uint8_t> rest() const { return left_; }

  std::uint8_t byte() {
    if (left_.empty()) return 0;
    const std::uint8_t first = left_.front();
    left_ = left_.subspan(1);
    return first;
  }
  /// From 0 to count - 1; of two bytes where one would not do.
  std::size_t below(std::size_t count) {
    std::size_t chosen = byte();
    if (count > 256) chosen = chosen << 8 | byte();
    return chosen % count;
  }
  /// From first to last, both included.
  int integer(int first, int last) {
    return first + static_cast<int>(below(static_cast<std::size_t>(last - first) + 1));
  }
  bool coin() { return (byte() & 1) != 0; }
  /// One time of so many.
  bool once_in(std::size_t times) { return below(times) == times - 1; }

  template <class T>
  const T& one_of(const std::vector<T>& all) {
    return all[below(all.size())];
  }

 private:
  std::span<const std::uint8_t> left_;
};

/// Makes a driver of the choices and runs it, unless its model has no layers or channels for the policy that was
/// chosen.
template <class Driver>
void drive(const std::uint8_t* data, std::size_t size) {
  Choices choices(data, size);
  std::optional<Driver> driver;
  try {
    driver.emplace(choices);
  } catch (const Error&) {
    return;
  }
  driver->run();
}

}  // namespace pith::test
