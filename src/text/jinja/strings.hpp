// SPDX-License-Identifier: MIT
// What methods, filters and tests of strings share. All of it keeps what is known of the origin of each byte.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

enum class Side { left, right, both };

/// `characters`: a string of those to take away; none for whitespace.
Text strip(Runtime& runtime, const Text& text, Side side, const Value& characters);

/// str.split, or rsplit from the right; `separator`: none for runs of whitespace.
std::vector<Value> split(Runtime& runtime, const Text& text, const Value& separator, std::size_t most, Side from);

/// The first `most` places where `what` stands; a negative number: all.
Text replace(Runtime& runtime, const Text& text, const Text& what, const Text& with, std::int64_t most);

/// What each value prints, with `between` between them.
Text join(Runtime& runtime, const std::vector<Value>& values, const Text& between);

}  // namespace pith::text::jinja
