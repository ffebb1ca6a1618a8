// SPDX-License-Identifier: MIT
// How flags are called in messages.
#pragma once

#include <string>
#include <string_view>

namespace pith::tool {

/// "-n,--predict" is "--predict/-n".
std::string flag_text(std::string_view flags);

/// What the library says of one of its options, said of the flag that sets it.
std::string in_flags(const std::string& message);

}  // namespace pith::tool
