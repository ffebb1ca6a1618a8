// SPDX-License-Identifier: MIT
// The variable `loop` of a for statement.
#pragma once

#include <optional>
#include <string_view>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// `length`: where it is known without going through `next`.
Loop make_loop(Stream next, std::optional<std::size_t> length, int depth_of_iterable);

/// Goes to the next value, and gives it.
std::optional<Value> advance(LoopData& loop);

/// loop.index and the like; nothing where there is no such attribute.
std::optional<Value> loop_attribute(Runtime& runtime, const Loop& loop, std::string_view name);

}  // namespace pith::text::jinja
