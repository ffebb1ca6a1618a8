// SPDX-License-Identifier: MIT
// The functions that every template can call by name.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// Nothing where there is none of that name.
std::optional<Value> global(std::string_view name);

}  // namespace pith::text::jinja
