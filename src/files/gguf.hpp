// SPDX-License-Identifier: MIT
// The GGUF container, versions 2 and 3 (ggml's docs/gguf.md): metadata and a directory of tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "files/input_file.hpp"
#include "pith/tensor/format.hpp"

namespace pith::inline files::gguf {

struct Value;
using Array = std::vector<Value>;

/// One metadata value: u64 is a uint64, every other integer an int64, every float a double.
struct Value : std::variant<std::int64_t, std::uint64_t, double, bool, std::string, Array> {
  using variant::variant;
};

struct Tensor {
  std::string name;
  std::uint32_t type = 0;                 // ggml_type
  std::vector<std::int64_t> shape;        // row-major, outermost first: GGUF's dimensions reversed
  std::uint64_t offset = 0;               // from the start of the file
  std::uint64_t bytes = 0;                // from there, all within the file; 0 = the size of such a type is not known
  std::shared_ptr<const InputFile> file;  // that it lies in: a part of a model in several
};

struct File {
  std::shared_ptr<const InputFile> file;  // of several, the one with the metadata
  std::string where;                      // names it in errors
  std::uint32_t version = 0;
  std::map<std::string, Value, std::less<>> metadata;
  std::map<std::string, std::span<const std::byte>, std::less<>> encoded;  // its values as they lie in the file
  std::vector<Tensor> tensors;

  const Value* find(std::string_view key) const;

  // Typed reads: the first form throws Error (model) naming file and key when it is absent, both when it has
  // another type; `T` is one of std::int64_t, double, bool, std::string.
  template <class T>
  T get(std::string_view key) const;
  template <class T>
  T get_or(std::string_view key, T fallback) const;
  /// An array of such values; empty when absent. Throws Error (model) when it is no array or an element is not a T.
  template <class T>
  std::vector<T> array(std::string_view key) const;
};

/// As ggml names it, "Q4_K"; "ggml type 99" for one not known.
std::string type_name(std::uint32_t type);

/// The ggml_type of a format, and the format of a ggml_type, if it is one.
std::uint32_t type_of(Format format);
std::optional<Format> format_of(std::uint32_t type);

/// Of a model in several files, NAME-00001-of-00003.gguf and so on, any one: the metadata of the first, the tensors of
/// all. Throws Error (file, format, model, unsupported).
File open(const std::filesystem::path& path, Access access = Access::mapped);

}  // namespace pith::inline files::gguf
