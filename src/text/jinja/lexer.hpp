// SPDX-License-Identifier: MIT
// Template text to lexemes, whitespace already taken away as the environment of chat templates does
// (trim_blocks, lstrip_blocks, the signs - and +).
#pragma once

#include <vector>

#include "text/jinja/source.hpp"
#include "text/jinja/token.hpp"

namespace pith::text::jinja {

/// Ends with a lexeme `end`. Throws Error (format, unsupported).
std::vector<Lexeme> tokenize(const Source& source);

}  // namespace pith::text::jinja
