// SPDX-License-Identifier: MIT
// What happens to a text before it is cut into words.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.hpp"
#include "text/unicode.hpp"

namespace pith::text {

struct Lowercase {};
struct StripAccents {};  // removes combining marks
struct StripEnds {       // removes whitespace
  bool left = true, right = true;
};
struct Replace {
  Pattern pattern;
  std::string content;
};
struct Prepend {  // to a text that is not empty, and goes on behind no other
  std::string content;
};
struct ToByteSymbols {};

class Normalizer {
 public:
  using Step = std::variant<Form, Lowercase, StripAccents, StripEnds, Replace, Prepend, ToByteSymbols>;

  void add(Step step);
  bool empty() const { return steps_.empty(); }

  std::string operator()(std::string text, Place place = Place::start) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace pith::text
