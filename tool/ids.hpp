// SPDX-License-Identifier: MIT
// Token ids as people and programs write them.
#pragma once

#include <string>
#include <vector>

#include "pith/tokenizer.hpp"

namespace pith::tool {

/// Token ids as text: a JSON array, an object with an array "tokens", or numbers between spaces or commas.
/// Throws Error (format), naming `where`.
std::vector<Token> parse_ids(const std::string& text, const std::string& where);

}  // namespace pith::tool
