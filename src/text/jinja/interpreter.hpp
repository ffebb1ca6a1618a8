// SPDX-License-Identifier: MIT
// Runs a template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "text/jinja/parser.hpp"
#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

using Variables = std::vector<std::pair<std::string, Value>>;

/// What the template writes. Throws Error where Jinja would raise (format; argument for the template's own
/// raise_exception) and for what this does not do (unsupported).
Text render(Runtime& runtime, const Program& program, const Variables& variables);

}  // namespace pith::text::jinja
