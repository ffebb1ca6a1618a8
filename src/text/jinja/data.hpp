// SPDX-License-Identifier: MIT
// JSON to the values that a template sees.
#pragma once

#include <string_view>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// Every string in it, keys too, is marked as data. Keys keep their order. `where` names the source in errors. Throws
/// Error (argument for text that is no JSON, unsupported for numbers beyond 64 bits).
Value read_data(Runtime& runtime, std::string_view json, std::string_view where);

}  // namespace pith::text::jinja
