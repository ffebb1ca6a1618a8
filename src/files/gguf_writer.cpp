// SPDX-License-Identifier: MIT
#include "files/gguf_writer.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <utility>

#include "files/gguf.hpp"

namespace pith::inline files::gguf {

namespace {

constexpr std::uint64_t alignment = 32;  // what readers take where no key says otherwise

enum Kind : std::uint32_t { kind_u32 = 4, kind_i32 = 5, kind_f32 = 6, kind_bool = 7, kind_string = 8, kind_array = 9 };

template <class T>
void append(std::string& out, T value) {
  auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  if constexpr (std::endian::native == std::endian::big) std::reverse(bytes.begin(), bytes.end());
  out.append(bytes.data(), bytes.size());
}

void append_string(std::string& out, std::string_view text) {
  append(out, std::uint64_t{text.size()});
  out.append(text);
}

template <class T>
std::string encoded(Kind kind, T value) {
  std::string out;
  append(out, std::uint32_t{kind});
  append(out, value);
  return out;
}

std::string array_of(Kind kind, std::size_t count) {
  std::string out;
  append(out, std::uint32_t{kind_array});
  append(out, std::uint32_t{kind});
  append(out, std::uint64_t{count});
  return out;
}

}  // namespace

void Writer::add(std::string_view key, std::uint32_t value) {
  metadata_.insert_or_assign(std::string(key), encoded(kind_u32, value));
}

void Writer::add(std::string_view key, float value) {
  metadata_.insert_or_assign(std::string(key), encoded(kind_f32, value));
}

void Writer::add(std::string_view key, bool value) {
  metadata_.insert_or_assign(std::string(key), encoded(kind_bool, static_cast<std::uint8_t>(value)));
}

void Writer::add(std::string_view key, std::string_view value) {
  std::string out;
  append(out, std::uint32_t{kind_string});
  append_string(out, value);
  metadata_.insert_or_assign(std::string(key), std::move(out));
}

void Writer::add(std::string_view key, std::span<const std::string> values) {
  std::string out = array_of(kind_string, values.size());
  for (const std::string& value : values) append_string(out, value);
  metadata_.insert_or_assign(std::string(key), std::move(out));
}

void Writer::add(std::string_view key, std::span<const float> values) {
  std::string out = array_of(kind_f32, values.size());
  for (const float value : values) append(out, value);
  metadata_.insert_or_assign(std::string(key), std::move(out));
}

void Writer::add(std::string_view key, std::span<const std::int32_t> values) {
  std::string out = array_of(kind_i32, values.size());
  for (const std::int32_t value : values) append(out, value);
  metadata_.insert_or_assign(std::string(key), std::move(out));
}

void Writer::add(std::string_view key, const std::vector<bool>& values) {
  std::string out = array_of(kind_bool, values.size());
  for (const bool value : values) append(out, static_cast<std::uint8_t>(value));
  metadata_.insert_or_assign(std::string(key), std::move(out));
}

void Writer::add_encoded(std::string_view key, std::span<const std::byte> value) {
  metadata_.insert_or_assign(std::string(key), std::string(reinterpret_cast<const char*>(value.data()), value.size()));
}

void Writer::declare(std::string name, const std::vector<std::int64_t>& shape, Format format) {
  assert(written_ == 0);
  std::uint64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= static_cast<std::uint64_t>(shape[i]);
  const std::uint64_t bytes = rows * row_bytes(format, static_cast<std::size_t>(shape.back()));
  tensors_.push_back({std::move(name), shape, format, bytes});
}

void Writer::write(std::span<const std::byte> bytes) {
  if (written_ == 0) write_header();
  assert(current_ < tensors_.size() && bytes.size() <= tensors_[current_].bytes - of_current_);
  write_raw({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  of_current_ += bytes.size();
  if (of_current_ < tensors_[current_].bytes) return;
  pad();
  ++current_;
  of_current_ = 0;
}

void Writer::finish() {
  if (written_ == 0) write_header();
  assert(current_ == tensors_.size());
  file_.finish();
}

void Writer::write_header() {
  std::string out = "GGUF";
  append(out, std::uint32_t{3});
  append(out, std::uint64_t{tensors_.size()});
  append(out, std::uint64_t{metadata_.size()});
  for (const auto& [key, value] : metadata_) {
    append_string(out, key);
    out += value;
  }
  std::uint64_t offset = 0;
  for (const Declared& tensor : tensors_) {
    append_string(out, tensor.name);
    append(out, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto side = tensor.shape.rbegin(); side != tensor.shape.rend(); ++side)
      append(out, static_cast<std::uint64_t>(*side));
    append(out, type_of(tensor.format));
    append(out, offset);
    offset += (tensor.bytes + alignment - 1) / alignment * alignment;
  }
  write_raw(out);
  pad();
}

void Writer::write_raw(std::string_view bytes) {
  file_.write(bytes);
  written_ += bytes.size();
}

void Writer::pad() {
  constexpr std::array<char, alignment> zeros{};
  write_raw({zeros.data(), static_cast<std::size_t>((alignment - written_ % alignment) % alignment)});
}

}  // namespace pith::inline files::gguf
