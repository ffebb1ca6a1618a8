// SPDX-License-Identifier: MIT
// Text out of a file, made fit for an error message.
#pragma once

#include <string>
#include <string_view>

namespace pith {

/// Bytes that are no printable ASCII become \xNN, and a long text is cut: what a broken file calls a name may be
/// anything.
inline std::string printable(std::string_view text) {
  constexpr std::size_t longest = 200;
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, longest)) {
    if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    }
  }
  if (text.size() > longest) out += "... (" + std::to_string(text.size()) + " bytes)";
  return out;
}

inline std::string in_quotes(std::string_view text) { return '"' + printable(text) + '"'; }

}  // namespace pith
