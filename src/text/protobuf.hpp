// SPDX-License-Identifier: MIT
// Walks a message in the wire format of protocol buffers; knows no schema.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pith::text {

class ProtobufReader {
 public:
  /// `where` names the message in errors. The bytes must outlive the reader and its fields.
  ProtobufReader(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  struct Field {
    std::uint32_t number = 0;
    enum class Kind { varint, fixed64, bytes, fixed32 } kind = Kind::varint;
    std::uint64_t value = 0;  // of a number, its bits
    std::string_view bytes;   // of a string or an embedded message
  };

  /// The next field; nothing at the end. Throws Error (format).
  std::optional<Field> next();

  // Each throws Error (format) where the field is of another kind.
  std::string_view bytes(const Field& field) const;
  std::int64_t integer(const Field& field) const;
  float number(const Field& field) const;

  const std::string& where() const { return where_; }

 private:
  std::uint64_t varint();
  std::string_view take(std::uint64_t n);
  void expect(const Field& field, Field::Kind kind, std::string_view expected) const;

  std::string_view bytes_;
  std::size_t position_ = 0;
  std::string where_;
};

}  // namespace pith::text
