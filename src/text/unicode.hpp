// SPDX-License-Identifier: MIT
// UTF-8 and what Unicode says of a character; the one place that knows utf8proc.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pith::text {

enum class Form { nfc, nfd, nfkc, nfkd };

/// The start of a text that is not empty.
struct Character {
  enum class State { whole, ill_formed, unfinished };  // unfinished: the text ends where more bytes could complete it
  char32_t code = 0;                                   // U+FFFD unless whole
  std::size_t bytes = 0;                               // unless whole: of the maximal ill-formed subsequence
  State state = State::whole;
};

Character first_character(std::string_view text);
void append(std::string& out, char32_t code);

bool is_utf8(std::string_view text);

/// U+FFFD for every maximal ill-formed subsequence.
std::string repair(std::string_view bytes);

/// How many bytes at the end of `bytes` begin a character that more bytes could complete: 0 to 3.
std::size_t unfinished_bytes(std::string_view bytes);

bool is_whitespace(char32_t code);   // property White_Space
bool is_punctuation(char32_t code);  // category P, and all signs of ASCII
bool is_number(char32_t code);       // category N
bool is_word(char32_t code);         // letters, marks, digits, connectors: \w of a Unicode-aware regex
bool is_mark(char32_t code);         // category M

bool is_printable(char32_t code);  // neither a control, format, private or unassigned character nor a separator but " "
bool is_cased(char32_t code);      // categories Lu, Ll, Lt
bool is_lower(char32_t code);      // category Ll
bool is_decimal(char32_t code);    // category Nd

/// The character's one-to-one mapping; itself where it has none.
char32_t to_upper(char32_t code);
char32_t to_lower(char32_t code);
char32_t to_title(char32_t code);

/// Columns of a character in a monospaced face: 2 for wide ones, 0 for marks, joiners and control characters.
std::size_t columns(char32_t code);

/// The functions below expect UTF-8.
std::string normalize(std::string_view text, Form form);
std::string lowercase(std::string_view text);

/// The ranges of whitespace at either end.
std::size_t leading_whitespace(std::string_view text);
std::size_t trailing_whitespace(std::string_view text);

}  // namespace pith::text
