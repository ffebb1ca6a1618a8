// SPDX-License-Identifier: MIT
// How policies write themselves down, in the words that prune::parse reads (prune/spec.hpp).
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "pith/api.hpp"

namespace pith::prune {

/// An option and its value: numbers in as few digits as give them back exactly.
struct PITH_API SpelledOption {
  SpelledOption(std::string_view option, int number);
  SpelledOption(std::string_view option, float number);
  SpelledOption(std::string_view option, std::string text) : name(option), value(std::move(text)) {}

  std::string_view name;
  std::string value;
};

/// "name(option=value,…)"; of a combinator, "name(option=value,…,policy)".
PITH_API std::string spell(std::string_view name, std::initializer_list<SpelledOption> options,
                           std::string_view policy = {});

}  // namespace pith::prune
