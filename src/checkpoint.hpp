// SPDX-License-Identifier: MIT
// A model on disk: its config and its named tensors, whatever the container.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/input_file.hpp"
#include "nn/arch/names.hpp"
#include "pith/nn/config.hpp"
#include "pith/tensor/matrix.hpp"

namespace pith {

/// One tensor as it lies in its file. Shape is row-major, outermost first; the bytes may be misaligned.
struct StoredTensor {
  Format format = Format::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const InputFile> file;
  std::string dtype;      // as the file spells it: "BF16", "Q4_K"
  bool supported = true;  // false: dtype is none of Format, format means nothing, and no weight can be made of it
};

using StoredTensors = std::map<std::string, StoredTensor, std::less<>>;

class Checkpoint {
 public:
  enum class Container { hugging_face, gguf };

  /// A Hugging Face directory or a .gguf file; `gates`: a sidecar safetensors laid over it (default: gates.safetensors
  /// in the directory, if there). Throws Error (file, format, model, unsupported).
  static Checkpoint open(const std::filesystem::path& path, const std::optional<std::filesystem::path>& gates = {},
                         Access access = Access::mapped);

  const Config& config() const { return config_; }
  Container container() const { return container_; }
  const std::filesystem::path& path() const { return path_; }
  const StoredTensors& tensors() const { return tensors_; }

  std::set<std::shared_ptr<const InputFile>> files() const;  // that tensors lie in

  bool has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

  /// A weight of out_features x in_features; of one that is stored the other way round, a transposed copy. Of several
  /// below each other, in a tensor of three dimensions, `experts` is how many: the rows are those of all.
  /// Throws Error (model) naming file, tensor, shapes.
  Matrix matrix(std::string_view name, std::size_t rows, std::size_t cols,
                TensorName::Layout layout = TensorName::Layout::out_in, std::size_t experts = 0) const;

  /// A vector of n numbers, decoded.
  std::vector<float> vector(std::string_view name, std::size_t n) const;

 private:
  const StoredTensor& find(std::string_view name) const;

  std::filesystem::path path_;
  Container container_ = Container::hugging_face;
  Config config_;
  StoredTensors tensors_;
};

/// What lies in a model's files, whether or not this library knows what to make of it.
struct Contents {
  std::string architecture;  // as the files spell it; empty where they do not say
  StoredTensors tensors;     // by their names there

  /// Throws Error (file, format).
  static Contents of(const std::filesystem::path& path);
};

}  // namespace pith
