// SPDX-License-Identifier: MIT
// Text for a terminal as it comes: lines end between words.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pith::tool {

class Wrap {
 public:
  /// `columns`: of the terminal; 0: nothing is wrapped.
  explicit Wrap(std::size_t columns) : columns_(columns) {}

  /// What can be shown now: all but the last word, which may not be whole.
  std::string push(std::string_view text);

  /// The last word; the next text begins a line.
  std::string flush();

 private:
  void end_word(std::string& out);

  std::size_t columns_;
  std::size_t column_ = 0;
  std::string blanks_, word_;  // not shown yet
  std::size_t word_columns_ = 0;
};

/// How many columns stdout has; 0 where it is no terminal.
std::size_t terminal_columns();

}  // namespace pith::tool
