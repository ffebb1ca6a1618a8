// SPDX-License-Identifier: MIT
// Python's two ways to put values into a text: "%s" % value and "{}".format(value), without widths and precisions.
#pragma once

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

Value percent_format(Runtime& runtime, const Text& format, const Value& values);
Value brace_format(Runtime& runtime, const Text& format, const Given& given);

}  // namespace pith::text::jinja
