// SPDX-License-Identifier: MIT
#include "text/decoder.hpp"

#include <utility>

#include "text/byte_level.hpp"
#include "text/unicode.hpp"

namespace pith::text {

namespace {

std::string trimmed(std::string_view text, std::string_view content, std::size_t start, std::size_t stop) {
  for (std::size_t i = 0; i < start && !content.empty() && text.starts_with(content); ++i)
    text.remove_prefix(content.size());
  for (std::size_t i = 0; i < stop && !content.empty() && text.ends_with(content); ++i)
    text.remove_suffix(content.size());
  return std::string(text);
}

struct Apply {
  std::string text;
  Place place;

  std::string operator()(const Replace& replace) const {
    // Behind a byte fallback a token need not be UTF-8, which regular expressions must have.
    if (std::holds_alternative<Regex>(replace.pattern) && !is_utf8(text)) return text;
    return replace_all(text, replace.pattern, replace.content);
  }
  std::string operator()(FromByteSymbols) const { return from_byte_symbols(text).value_or(text); }
  std::string operator()(ByteFallback) const {
    const auto byte = byte_of_token(text);
    return byte ? std::string(1, *byte) : text;
  }
  std::string operator()(const UnmarkSpaces& marks) const {
    const bool dropped = place == Place::start && marks.prefix != MarkSpaces::Prefix::never;
    return replace_all(text, marks.mark, dropped ? "" : " ");
  }
  std::string operator()(const Trim& trim) const { return trimmed(text, trim.content, trim.start, trim.stop); }
  std::string operator()(JoinWithSpace) const { return place == Place::start ? text : " " + text; }
};

}  // namespace

void Decoder::add(Step step) { steps_.push_back(std::move(step)); }

std::string Decoder::operator()(std::string_view token, Place place) const {
  std::string text(token);
  for (const Step& step : steps_) text = std::visit(Apply{std::move(text), place}, step);
  if (place == Place::start) text = trimmed(text, text_trim_.content, text_trim_.start, 0);
  return text;
}

}  // namespace pith::text
