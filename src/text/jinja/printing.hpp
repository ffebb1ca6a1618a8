// SPDX-License-Identifier: MIT
// Values as text: Python's str, repr and json.dumps.
#pragma once

#include <optional>
#include <string>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// What {{ value }} writes.
Text str(Runtime& runtime, const Value& value);
Text repr(Runtime& runtime, const Value& value);
std::string repr(double value);

struct JsonStyle {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<Text> indent;  // one step of it
  Text item_separator, key_separator;
};
Text to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace pith::text::jinja
