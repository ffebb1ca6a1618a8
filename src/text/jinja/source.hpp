// SPDX-License-Identifier: MIT
// The source of a template, and how its faults are told: with line and column.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "pith/error.hpp"

namespace pith::text::jinja {

class Source {
 public:
  /// `name` says in errors where the text comes from. Every line ends in "\n" afterwards, and one newline at the very
  /// end is dropped, as Jinja does. Throws Error (format) for text that is not UTF-8.
  Source(std::string_view text, std::string name);

  const std::string& text() const { return text_; }

  /// Throws Error: "<name>:<line>:<column>: <message>", columns in characters from 1.
  [[noreturn]] void fail(ErrorCode code, std::size_t offset, std::string_view message) const;

 private:
  std::string text_, name_;
};

}  // namespace pith::text::jinja
