// SPDX-License-Identifier: MIT
// What the lexer makes of a template and the parser reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

namespace pith::text::jinja {

struct Lexeme {
  enum class Kind {
    data,
    variable_begin,
    variable_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    real,
    sign,
    end
  };

  Kind kind = Kind::end;
  std::size_t offset = 0;  // in the source
  std::string text;        // data, a name, the value of a string, a sign
  std::int64_t integer = 0;
  double real = 0;
};

}  // namespace pith::text::jinja
