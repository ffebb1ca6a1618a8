// SPDX-License-Identifier: MIT
// The safetensors container: a JSON header of names, shapes and offsets, then the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "files/input_file.hpp"

namespace pith::inline files::safetensors {

struct Tensor {
  std::string dtype;                // as the header spells it: "F32", "BF16", "I8" …
  std::vector<std::int64_t> shape;  // row-major, outermost first
  std::span<const std::byte> bytes;
};

struct File {
  std::shared_ptr<const InputFile> file;
  std::map<std::string, std::string, std::less<>> metadata;  // the header's __metadata__
  std::map<std::string, Tensor, std::less<>> tensors;
};

/// The tensors cover the bytes behind the header without overlap or hole, and each has as many as its shape and dtype
/// say (a dtype that is not known by name is taken at its word). Throws Error (file, format).
File open(const std::filesystem::path& path, Access access = Access::mapped);

}  // namespace pith::inline files::safetensors
