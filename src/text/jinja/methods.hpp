// SPDX-License-Identifier: MIT
// The methods of strings, dicts and lists that a template may call.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// What `object.name` is where the type itself has it: a method, or undefined where Jinja's sandbox forbids it; nothing
/// where there is no such attribute. Throws Error (unsupported) for what Python has and this does not.
std::optional<Value> type_attribute(Runtime& runtime, const Value& object, std::string_view name);

}  // namespace pith::text::jinja
