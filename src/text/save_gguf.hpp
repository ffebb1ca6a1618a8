// SPDX-License-Identifier: MIT
// A tokenizer as metadata of a GGUF.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "files/gguf_writer.hpp"
#include "pith/nn/config.hpp"

namespace pith::text {

/// Writes the tokenizer of a Hugging Face directory, for a model of this config: in ggml's keys, and where it is
/// defined by a tokenizer.json that file too, as tokenizer.huggingface.json (a key of the GGUF specification), since
/// ggml has no words for most of what it can say. Adds to `notes` what did not come along.
void save_gguf(const std::filesystem::path& directory, const Config& config, gguf::Writer& out,
               std::vector<std::string>& notes);

}  // namespace pith::text
