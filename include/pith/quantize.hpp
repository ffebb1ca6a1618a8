// SPDX-License-Identifier: MIT
// Models as GGUF files, in any format of weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "pith/api.hpp"
#include "pith/model.hpp"

namespace pith {

struct QuantizeOptions {
  Format format = Format::q8_0;                // of the matrices; vectors, positions and gates are f32
  std::string like;                            // one of mixtures(), which chooses a format for each matrix instead
  std::optional<std::filesystem::path> gates;  // a sidecar safetensors with gates, in place of the model's own
  int threads = 0;                             // 0 = one per core
  std::stop_token stop;                        // asked to stop: Error (cancelled), and no file
  std::function<void(std::string_view tensor, double done)> progress;  // done: from 0 to 1
};

/// Mixtures of formats that users know by name: q4_k_m and others, as llama.cpp makes them of dense models.
PITH_API std::vector<std::string_view> mixtures();

struct Quantized {
  std::uint64_t bytes = 0;          // of the file
  std::vector<TensorInfo> tensors;  // as written
  std::vector<std::string> notes;   // what is not as one would expect, in words
};

/// Writes the model at `in` (Hugging Face directory or .gguf) with its tokenizer and gates as one GGUF v3 file, tensor
/// by tensor. Rows that are no multiple of a format's blocks become what fitting() says. The file is there once it is
/// whole. Throws Error (file, format, model, unsupported): the latter where a GGUF cannot say what the model does.
PITH_API Quantized quantize(const std::filesystem::path& in, const std::filesystem::path& out,
                            const QuantizeOptions& options = {});

/// The same for a model in memory, which has no tokenizer; options.gates means nothing here.
PITH_API Quantized quantize(const Model& model, const std::filesystem::path& out, const QuantizeOptions& options = {});

}  // namespace pith
