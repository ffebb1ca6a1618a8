// SPDX-License-Identifier: MIT
// Demonstrations of which only the marked parts are to be remembered.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pith/generator.hpp"
#include "pith/tokenizer.hpp"

namespace pith::tool {

/// A text in which [[ and ]] stood around its anchors.
struct MarkedText {
  std::string text;                                        // without the marks
  std::vector<std::pair<std::size_t, std::size_t>> marks;  // bytes [begin, end) of it, in order

  /// Throws Error (format), naming `where`, for a mark that opens in another or is not closed.
  static MarkedText of(std::string_view text, const std::string& where);
};

/// Which tokens of a prompt that begins with the text are anchors: those with a marked byte, and those that stand for
/// no text. A token that reaches beyond the text is none of its own. Throws Error (unsupported) where tokens do not say
/// which bytes they stand for.
Anchors anchors_of(const MarkedText& marked, std::span<const Token> prompt, const Tokenizer& tokenizer);

}  // namespace pith::tool
