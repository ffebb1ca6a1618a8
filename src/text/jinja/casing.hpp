// SPDX-License-Identifier: MIT
// str.upper, lower, title, capitalize. All of it throws Error (unsupported) for characters whose case depends on their
// neighbours or that become several.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

std::string upper(Runtime& runtime, std::string_view text);
std::string lower(Runtime& runtime, std::string_view text);
std::string capitalize(Runtime& runtime, std::string_view text);
/// The method str.title: a word begins after every character without case.
std::string title(Runtime& runtime, std::string_view text);
/// Jinja's filter `title`: a word begins after spaces, "-" and opening brackets.
std::string title_words(Runtime& runtime, std::string_view text);

/// str.isupper, str.islower.
bool all_upper(Runtime& runtime, std::string_view text);
bool all_lower(Runtime& runtime, std::string_view text);

}  // namespace pith::text::jinja
