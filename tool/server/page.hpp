// SPDX-License-Identifier: MIT
// The page at "/", as the build put it in here.
#pragma once

#include <string_view>

namespace pith::tool {

extern const std::string_view page_html;  // every "@NONCE@" in it is to be replaced by what the answer's CSP says

}  // namespace pith::tool
