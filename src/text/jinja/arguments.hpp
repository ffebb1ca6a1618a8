// SPDX-License-Identifier: MIT
// The arguments of a call, sorted to the names of a function's parameters.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "text/jinja/runtime.hpp"

namespace pith::text::jinja {

/// What a call gave for each parameter. Everything throws Error (format) that Python would raise a TypeError for.
class Bound {
 public:
  /// The first `required` parameters must be given. `function` for errors.
  Bound(Runtime& runtime, std::string_view function, const Given& given, std::initializer_list<std::string_view> names,
        std::size_t required = 0);

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  /// None where it was not given.
  const Value& operator[](std::size_t i) const;
  Value get(std::size_t i, Value otherwise) const { return has(i) ? *values_[i] : std::move(otherwise); }

  bool flag(std::size_t i) const { return has(i) && truth_of(*values_[i]); }
  std::int64_t integer(std::size_t i, std::int64_t otherwise) const;
  /// The text of a string; not one that is marked safe.
  const Text& text(std::size_t i) const;

 private:
  static bool truth_of(const Value& value);
  [[noreturn]] void expected(std::size_t i, std::string_view what) const;

  Runtime& runtime_;
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace pith::text::jinja
