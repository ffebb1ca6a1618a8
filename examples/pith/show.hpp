// SPDX-License-Identifier: MIT
// A text with the tokens marked that a model has forgotten.
#pragma once

#include <ostream>
#include <span>

#include "pith/tokenizer.hpp"

namespace pith::tool {

enum class Marks { colour, plain };

/// The text of `tokens` by the fraction of layers that hold each: held[i], 1 for those beyond its end. Then what the
/// marks mean.
void show_held(std::ostream& out, const Tokenizer& tokenizer, std::span<const Token> tokens,
               std::span<const double> held, Marks marks);

}  // namespace pith::tool
