// SPDX-License-Identifier: MIT
// The filters of Jinja ({{ value | name }}), with transformers' own tojson.
#pragma once

#include <string_view>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// Throws Error: unsupported for a filter that Jinja has and this does not, format for one that it has not.
Value call_filter(Runtime& runtime, std::string_view name, const Value& object, const Given& given);

bool is_filter(std::string_view name);

}  // namespace pith::text::jinja
