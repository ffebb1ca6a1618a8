// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>
#include <utility>

#include "pith/trace.hpp"
#include "trace/report_files.hpp"

namespace pith {

namespace {

/// JSON inside a <script>: no text in it can end the element.
std::string inert(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) c == '<' ? out += "\\u003c" : out += c;
  return out;
}

}  // namespace

std::string to_html(std::string_view trace_json, std::string_view other_json) {
  std::string scripts;
  for (const std::string_view script : report_scripts) scripts += script;
  const std::pair<std::string_view, std::string> parts[] = {{"/*{{css}}*/", std::string(report_css)},
                                                            {"/*{{js}}*/", scripts},
                                                            {"{{trace}}", inert(trace_json)},
                                                            {"{{compare}}", inert(other_json)}};
  // In one pass over the page, as the texts put in may contain the marks themselves.
  std::string out;
  for (std::size_t i = 0; i < report_html.size();) {
    const auto* found = std::begin(parts);
    while (found != std::end(parts) && !report_html.substr(i).starts_with(found->first)) ++found;
    if (found == std::end(parts)) {
      out += report_html[i++];
    } else {
      out += found->second;
      i += found->first.size();
    }
  }
  return out;
}

}  // namespace pith
