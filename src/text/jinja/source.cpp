// SPDX-License-Identifier: MIT
#include "text/jinja/source.hpp"

#include <algorithm>

#include "text/unicode.hpp"

namespace pith::text::jinja {

Source::Source(std::string_view text, std::string name) : name_(std::move(name)) {
  if (!is_utf8(text)) pith::fail(ErrorCode::format, name_, "a template in UTF-8", "other bytes");
  text_.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      text_ += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      text_ += text[i];
    }
  }
  if (text_.ends_with('\n')) text_.pop_back();
}

void Source::fail(ErrorCode code, std::size_t offset, std::string_view message) const {
  const std::string_view before = std::string_view(text_).substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto start = before.rfind('\n') + 1;  // npos + 1 is 0
  const auto column = std::count_if(before.begin() + static_cast<std::ptrdiff_t>(start), before.end(),
                                    [](char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80; }) +
                      1;
  pith::fail(code, name_ + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + std::string(message));
}

}  // namespace pith::text::jinja
