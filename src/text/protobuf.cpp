// SPDX-License-Identifier: MIT
#include "text/protobuf.hpp"

#include <bit>

#include "pith/error.hpp"

namespace pith::text {

std::uint64_t ProtobufReader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(take(1)[0]);
    value |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  fail(ErrorCode::format, where_, "a number of at most 10 bytes", "a longer one at byte " + std::to_string(position_));
}

std::string_view ProtobufReader::take(std::uint64_t n) {
  const auto left = bytes_.size() - position_;
  if (n > left)
    fail(ErrorCode::format, where_, std::to_string(n) + " bytes at byte " + std::to_string(position_),
         std::to_string(left) + " to the end");
  const auto out = bytes_.substr(position_, static_cast<std::size_t>(n));
  position_ += out.size();
  return out;
}

std::optional<ProtobufReader::Field> ProtobufReader::next() {
  if (position_ == bytes_.size()) return {};
  const auto little_endian = [](std::string_view raw) {
    std::uint64_t value = 0;
    for (std::size_t i = raw.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(raw[i]);
    return value;
  };

  const auto begin = position_;
  const std::uint64_t tag = varint();
  Field field;
  field.number = static_cast<std::uint32_t>(tag >> 3);
  switch (tag & 7u) {
    case 0:
      field.value = varint();
      break;
    case 1:
      field.kind = Field::Kind::fixed64;
      field.value = little_endian(take(8));
      break;
    case 2:
      field.kind = Field::Kind::bytes;
      field.bytes = take(varint());
      break;
    case 5:
      field.kind = Field::Kind::fixed32;
      field.value = little_endian(take(4));
      break;
    default:
      fail(ErrorCode::format, where_, "a field of protocol buffers at byte " + std::to_string(begin),
           "wire type " + std::to_string(tag & 7u));
  }
  return field;
}

void ProtobufReader::expect(const Field& field, Field::Kind kind, std::string_view expected) const {
  if (field.kind != kind)
    fail(ErrorCode::format, where_ + ": field " + std::to_string(field.number), expected, "another kind of value");
}

std::string_view ProtobufReader::bytes(const Field& field) const {
  expect(field, Field::Kind::bytes, "bytes");
  return field.bytes;
}

std::int64_t ProtobufReader::integer(const Field& field) const {
  expect(field, Field::Kind::varint, "an integer");
  return static_cast<std::int64_t>(field.value);
}

float ProtobufReader::number(const Field& field) const {
  expect(field, Field::Kind::fixed32, "a 32-bit number");
  return std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
}

}  // namespace pith::text
