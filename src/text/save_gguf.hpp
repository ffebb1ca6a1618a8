// SPDX-License-Identifier: MIT
// A tokenizer as metadata of a GGUF.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "files/gguf_writer.hpp"
#include "pith/tokenizer.hpp"

namespace pith::text {

/// What a model itself knows of its tokens.
struct ModelTokens {
  int vocab_size = 0;  // rows of the embedding, of which a tokenizer may know fewer
  std::optional<Token> bos;
  std::vector<Token> ends;
};

/// Writes the tokenizer of a Hugging Face directory, for a model of such tokens: in ggml's keys, and where it is
/// defined by a tokenizer.json that file too, as tokenizer.huggingface.json (a key of the GGUF specification), since
/// ggml has no words for most of what it can say; with the chat templates that are there. Adds to `notes` what did not
/// come along.
void save_gguf(const std::filesystem::path& directory, const ModelTokens& model, gguf::Writer& out,
               std::vector<std::string>& notes);

}  // namespace pith::text
