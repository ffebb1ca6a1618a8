// SPDX-License-Identifier: MIT
// Numbers, texts and lists one after the other in bytes, little-endian, and read again with every length checked.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "pith/error.hpp"

namespace pith::inline files {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie");

template <class T>
concept Number = std::integral<T> || std::floating_point<T> || std::is_enum_v<T>;

class ByteWriter {
 public:
  template <Number T>
  void number(T value) {
    bytes({reinterpret_cast<const std::byte*>(&value), sizeof value});
  }
  void count(std::size_t n) { number(static_cast<std::uint64_t>(n)); }
  void text(std::string_view text) {
    count(text.size());
    bytes(std::as_bytes(std::span(text)));
  }
  template <Number T>
  void numbers(std::span<const T> values) {
    count(values.size());
    bytes(std::as_bytes(values));
  }
  template <Number T>
  void numbers(const std::vector<T>& values) {
    numbers(std::span<const T>(values));
  }
  void bytes(std::span<const std::byte> some) { out_.append(reinterpret_cast<const char*>(some.data()), some.size()); }

  const std::string& written() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

/// Throws Error (format), naming `whose` bytes they are, where there are too few.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string whose) : left_(bytes), whose_(std::move(whose)) {}

  template <Number T>
  T number() {
    T value;
    std::memcpy(&value, bytes(sizeof value).data(), sizeof value);
    return value;
  }

  /// How many follow that take at least `each` bytes.
  std::size_t count(std::size_t each) {
    const auto n = number<std::uint64_t>();
    if (n > left_.size() / each) refuse("room for " + std::to_string(n) + " of what follows");
    return static_cast<std::size_t>(n);
  }
  std::string text() {
    const auto some = bytes(count(1));
    return {reinterpret_cast<const char*>(some.data()), some.size()};
  }
  template <Number T>
  std::vector<T> numbers() {
    std::vector<T> values(count(sizeof(T)));
    const auto some = bytes(values.size() * sizeof(T));
    if (!some.empty()) std::memcpy(values.data(), some.data(), some.size());
    return values;
  }
  std::span<const std::byte> bytes(std::size_t n) {
    if (n > left_.size()) refuse(std::to_string(n) + " bytes more");
    const auto some = left_.first(n);
    left_ = left_.subspan(n);
    return some;
  }

  std::size_t left() const { return left_.size(); }
  const std::string& whose() const { return whose_; }

  /// Throws Error (format) unless it holds.
  void expect(bool holds, const char* what) const {
    if (!holds) fail(ErrorCode::format, whose_ + ": expected " + what + ", found otherwise");
  }

 private:
  [[noreturn]] void refuse(const std::string& expected) const {
    fail(ErrorCode::format, whose_, expected, std::to_string(left_.size()) + " bytes");
  }

  std::span<const std::byte> left_;
  std::string whose_;
};

}  // namespace pith::inline files
