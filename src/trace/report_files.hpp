// SPDX-License-Identifier: MIT
// The sources of the HTML report (src/trace/report/), as the build put them into the library.
#pragma once

#include <string_view>

namespace pith {

extern const std::string_view report_html, report_css, report_js;

}  // namespace pith
