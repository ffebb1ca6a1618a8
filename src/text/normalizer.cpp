// SPDX-License-Identifier: MIT
#include "text/normalizer.hpp"

#include <utility>

#include "text/byte_level.hpp"

namespace pith::text {

namespace {

struct Apply {
  std::string text;
  Place place;

  std::string operator()(Form form) const { return normalize(text, form); }
  std::string operator()(Lowercase) const { return lowercase(text); }
  std::string operator()(StripAccents) const { return replace_all(text, CharacterTest{is_mark}, ""); }
  std::string operator()(StripEnds ends) const {
    std::string_view rest = text;
    if (ends.left) rest.remove_prefix(leading_whitespace(rest));
    if (ends.right) rest.remove_suffix(trailing_whitespace(rest));
    return std::string(rest);
  }
  std::string operator()(const Replace& replace) const { return replace_all(text, replace.pattern, replace.content); }
  std::string operator()(const Prepend& prepend) const {
    return text.empty() || place == Place::after_text ? text : prepend.content + text;
  }
  std::string operator()(ToByteSymbols) const { return to_byte_symbols(text); }
};

}  // namespace

void Normalizer::add(Step step) { steps_.push_back(std::move(step)); }

std::string Normalizer::operator()(std::string text, Place place) const {
  for (const Step& step : steps_) text = std::visit(Apply{std::move(text), place}, step);
  return text;
}

}  // namespace pith::text
