// SPDX-License-Identifier: MIT
// A template's source to its syntax tree.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/jinja/source.hpp"
#include "text/jinja/syntax.hpp"

namespace pith::text::jinja {

struct Program {
  Block body;
  std::vector<std::unique_ptr<Names>> names;  // of its scopes, its own first
  std::vector<std::string> literals;          // all text that the template itself writes: its data and its strings
};

/// Throws Error (format; unsupported for what Jinja has and this does not, or for nesting too deep).
Program parse(const Source& source);

}  // namespace pith::text::jinja
