// SPDX-License-Identifier: MIT
// A loaded model: its shape and its parameters, immutable and shared.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pith/api.hpp"
#include "pith/nn/config.hpp"
#include "pith/nn/weights.hpp"

namespace pith {

/// What a model's file says of one tensor.
struct TensorInfo {
  std::string name;
  std::string format;
  std::vector<std::int64_t> shape;  // outermost first
  std::uint64_t bytes = 0;
};

/// What lies in a model's files, whether or not this library can run it.
struct PITH_API ModelFiles {
  std::string architecture;         // as they spell it; empty where they do not say
  std::vector<TensorInfo> tensors;  // by their names there

  /// A Hugging Face directory or a .gguf file. Throws Error (file, format) where the files are none.
  static ModelFiles read(const std::filesystem::path& path);
};

struct LoadOptions {
  std::optional<std::filesystem::path> gates;  // a sidecar safetensors with gates, laid over the model's own
  bool map = true;  // weights are mapped; false: they are read into memory, and the files are done with
};

/// From here on, in the whole process, bytes of mapped weights that are gone as somebody cut their file end a pass with
/// an Error (file) and not with a signal: SIGBUS is handled. A fault elsewhere finds the handler that was there before.
/// For hosts that map what others write. Throws Error (state) where the signal cannot be had.
PITH_API void guard_mappings();

/// Copies share the parameters; any number of sessions, in any threads, may use one model.
class PITH_API Model {
 public:
  /// From a Hugging Face directory or a .gguf file. Mapped weights are not read: pages come in as they are used.
  /// Throws Error (file, format, model, unsupported).
  static Model load(const std::filesystem::path& path, const LoadOptions& options = {});

  /// From parameters in memory. Throws Error (model) where a shape does not fit the config.
  static Model create(Config config, Weights weights);

  const Config& config() const;
  const Weights& weights() const;
  const std::vector<TensorInfo>& tensors() const;  // as stored; empty for a created model
  std::uint64_t parameters() const;
  std::uint64_t bytes() const;  // of all weights as they are used

  /// Throws Error (file) where a mapped file was cut since (guard_mappings); what was computed since is of no use.
  void check_files() const;

 private:
  struct PITH_LOCAL Impl;
  explicit Model(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace pith
