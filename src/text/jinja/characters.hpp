// SPDX-License-Identifier: MIT
// What Python says of a character, where it differs from the tokenizers' view of it.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "text/pattern.hpp"

namespace pith::text::jinja {

/// str.isspace, and \s of Python's regular expressions.
bool is_space(char32_t code);

/// Bytes of whitespace at either end.
std::size_t leading_space(std::string_view text);
std::size_t trailing_space(std::string_view text);

/// Where each character of UTF-8 text begins, and the end of the text.
std::vector<std::size_t> character_starts(std::string_view text);
std::size_t count_characters(std::string_view text);

/// str.splitlines, line ends left out.
std::vector<Range> split_lines(std::string_view text);

/// Linear time, whatever is looked for; npos where it is not found.
std::size_t find_text(std::string_view text, std::string_view what, std::size_t from = 0);

}  // namespace pith::text::jinja
