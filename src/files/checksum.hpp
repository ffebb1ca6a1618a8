// SPDX-License-Identifier: MIT
// A number that changes with what it is of: to find damage and to tell models apart, not against forgery.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace pith::inline files {

/// Bytes are taken eight at a time, and a word's turn maps states one to one: no change of one word goes unseen.
class Checksum {
 public:
  void add(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      std::uint64_t word = 0;
      const std::size_t n = std::min(bytes.size(), sizeof word);
      std::memcpy(&word, bytes.data(), n);
      mix(word);
      bytes = bytes.subspan(n);
    }
  }
  void add(std::string_view text) {
    add(text.size());
    add(std::as_bytes(std::span(text)));
  }
  template <class T>
  requires std::integral<T> || std::floating_point<T>
  void add(T number) { add(std::as_bytes(std::span(&number, 1))); }

  std::uint64_t value() const { return state_; }

 private:
  void mix(std::uint64_t word) {
    state_ = (state_ ^ word) * 0x9e3779b97f4a7c15;  // odd: 2^64 over the golden ratio
    state_ ^= state_ >> 32;
  }

  std::uint64_t state_ = 0x243f6a8885a308d3;  // digits of pi
};

}  // namespace pith::inline files
