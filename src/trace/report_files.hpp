// SPDX-License-Identifier: MIT
// The sources of the HTML report (src/trace/report/), as the build put them into the library.
#pragma once

#include <span>
#include <string_view>

namespace pith {

extern const std::string_view report_html, report_css;
extern const std::span<const std::string_view> report_scripts;  // to be put one after another

}  // namespace pith
