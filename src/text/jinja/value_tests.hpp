// SPDX-License-Identifier: MIT
// The tests of Jinja ({{ value is name }}).
#pragma once

#include <string_view>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// Throws Error: unsupported for a test that Jinja has and this does not, format for one that it has not.
bool call_test(Runtime& runtime, std::string_view name, const Value& object, const Given& given);

}  // namespace pith::text::jinja
