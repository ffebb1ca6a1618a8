// SPDX-License-Identifier: MIT
// What can be said to a method: each option once, as data, for whoever checks, reads, writes or lists it.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "pith/error.hpp"
#include "pith/prune/spelling.hpp"

namespace pith::prune {

/// One number of a struct of options.
template <class Options, class T>
struct Option {
  std::string_view name;
  T Options::*number;
  T least;                // what it may be
  std::string_view what;  // what it means, for people
  T most = std::numeric_limits<T>::max();
};

// clang 14 does not deduce the arguments of an aggregate by itself.
template <class Options, class T>
Option(std::string_view, T Options::*, std::type_identity_t<T>, std::string_view) -> Option<Options, T>;
template <class Options, class T>
Option(std::string_view, T Options::*, std::type_identity_t<T>, std::string_view, std::type_identity_t<T>)
    -> Option<Options, T>;

/// A struct that lists its options, as `static constexpr std::tuple list`.
template <class O>
concept HasOptions = std::is_default_constructible_v<O> && requires {
  std::tuple_size<decltype(O::list)>::value;
};

/// f(option) for each.
template <HasOptions O, class F>
void for_each_option(F&& f) {
  std::apply([&](const auto&... option) { (f(option), ...); }, O::list);
}

/// Throws Error (argument) naming the method and the first of its options that is out of range.
template <HasOptions... O>
void check(std::string_view method, const O&... structs) {
  const auto check_one = [&]<class S>(const S& o) {
    for_each_option<S>([&](const auto& option) {
      const auto number = o.*option.number;
      if (number >= option.least && number <= option.most) return;
      fail(ErrorCode::argument, std::string(method) + ": " + std::string(option.name),
           number > option.most ? "at most " + SpelledOption("", option.most).value
                                : "at least " + SpelledOption("", option.least).value,
           SpelledOption("", number).value);
    });
  };
  (check_one(structs), ...);
}

/// "name(option=value,…)" with all options of all structs.
template <HasOptions... O>
std::string spelled(std::string_view name, const O&... structs) {
  std::string inside;
  const auto add = [&]<class S>(const S& o) {
    for_each_option<S>([&](const auto& option) {
      inside.append(inside.empty() ? "" : ",").append(option.name).append("=");
      inside.append(SpelledOption("", o.*option.number).value);
    });
  };
  (add(structs), ...);
  return std::string(name) + "(" + inside + ")";
}

}  // namespace pith::prune
