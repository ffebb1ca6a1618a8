// SPDX-License-Identifier: MIT
// Writing the GGUF container, version 3: metadata and a directory of tensors first, then their bytes in that order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "files/output_file.hpp"
#include "pith/tensor/format.hpp"

namespace pith::inline files::gguf {

class Writer {
 public:
  /// Nothing is there before finish(). Throws Error (file).
  explicit Writer(std::filesystem::path path) : file_(std::move(path)) {}

  const std::filesystem::path& path() const { return file_.path(); }

  // Metadata; a key that is there already gets the new value.
  void add(std::string_view key, std::uint32_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, bool value);
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }
  void add(std::string_view key, std::span<const std::string> values);
  void add(std::string_view key, std::span<const float> values);
  void add(std::string_view key, std::span<const std::int32_t> values);
  void add(std::string_view key, const std::vector<bool>& values);
  /// A value as it lies in another GGUF: its type and bytes.
  void add_encoded(std::string_view key, std::span<const std::byte> value);
  bool has(std::string_view key) const { return metadata_.contains(key); }

  /// `shape` is row-major, outermost first.
  void declare(std::string name, const std::vector<std::int64_t>& shape, Format format);

  /// The next bytes of the tensors declared, which all are by then; a tensor begins where the one before it is whole.
  void write(std::span<const std::byte> bytes);

  /// Every declared byte has been written: the file is there.
  void finish();

  std::uint64_t bytes() const { return written_; }

 private:
  struct Declared {
    std::string name;
    std::vector<std::int64_t> shape;
    Format format;
    std::uint64_t bytes;
  };

  void write_header();
  void write_raw(std::string_view bytes);
  void pad();

  OutputFile file_;
  std::map<std::string, std::string, std::less<>> metadata_;  // key to type and value
  std::vector<Declared> tensors_;
  std::size_t current_ = 0;       // tensor
  std::uint64_t of_current_ = 0;  // bytes of it that are written
  std::uint64_t written_ = 0;
};

}  // namespace pith::inline files::gguf
