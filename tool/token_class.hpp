// SPDX-License-Identifier: MIT
// What kind of word each token of an English text belongs to.
#pragma once

#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "pith/tokenizer.hpp"

namespace pith::tool {

/// A token is of the class of the word, or sign, that holds its first byte that is not blank.
enum class TokenClass {
  function_word,  // in the list in token_class.cpp, whatever its case, with or without 's, n't and the like
  name,           // begins with a capital, is no function word and does not begin a sentence or a quotation
  number,         // begins with a digit
  word,           // any other
  sentence_end,  // . ! ? … before a blank or a closing quote, unless a small letter follows or it ends an abbreviation
  punctuation,   // any other sign
  blank,         // spaces and line ends alone
  special,       // tokens that stand for no text
};
constexpr std::array<std::string_view, 8> token_classes = {"function word", "name",        "number", "other word",
                                                           "sentence end",  "punctuation", "blank",  "special"};

std::vector<TokenClass> classify(std::span<const Token> tokens, const Tokenizer& tokenizer);

}  // namespace pith::tool
