// SPDX-License-Identifier: MIT
// What GGUF has words for of a tokenizer.json.
#pragma once

#include "files/json.hpp"
#include "text/definition.hpp"

namespace pith::text {

/// Whether it spells spaces and bytes as SentencePiece does; such a tokenizer.json is a converted tokenizer.model.
bool is_sentencepiece(const Definition& definition);

/// Fills in definition.gguf: how GGUF calls what the tokenizer.json does; empty where it has no name.
void name_for_gguf(const nlohmann::json& root, Definition& definition);

}  // namespace pith::text
