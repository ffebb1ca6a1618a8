// SPDX-License-Identifier: MIT
// On a terminal: a text with the tokens marked that a model has forgotten, and how many rows each layer kept.
#pragma once

#include <span>
#include <string_view>

#include "kept.hpp"
#include "pith/tokenizer.hpp"
#include "tool.hpp"

namespace pith::tool {

/// The text of `tokens` by the fraction of layers that hold each (all of them, for tokens that were not fed), what the
/// marks mean, a curve per layer of the rows that each query saw, and a closing line. On stdout, with --json on stderr.
void show(const Tool& tool, const Tokenizer& tokenizer, std::span<const Token> tokens, const DropAt& drop_at,
          std::string_view closing);

}  // namespace pith::tool
