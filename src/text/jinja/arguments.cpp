// SPDX-License-Identifier: MIT
#include "text/jinja/arguments.hpp"

#include <algorithm>
#include <string>

#include "printable.hpp"
#include "text/jinja/operators.hpp"

namespace pith::text::jinja {

Bound::Bound(Runtime& runtime, std::string_view function, const Given& given,
             std::initializer_list<std::string_view> names, std::size_t required)
    : runtime_(runtime), function_(function), names_(names), values_(names.size(), nullptr) {
  const std::string of = in_quotes(function);
  if (given.positional.size() > names_.size())
    runtime.wrong(of + ": expected at most " + std::to_string(names_.size()) + " arguments, found " +
                  std::to_string(given.positional.size()));
  for (std::size_t i = 0; i < given.positional.size(); ++i) values_[i] = &given.positional[i];
  for (const auto& [name, value] : given.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) runtime.wrong(of + " has no argument " + in_quotes(name));
    const Value*& slot = values_[static_cast<std::size_t>(found - names_.begin())];
    if (slot != nullptr) runtime.wrong(of + ": the argument " + in_quotes(name) + " comes twice");
    slot = &value;
  }
  for (std::size_t i = 0; i < required; ++i)
    if (values_[i] == nullptr) runtime.wrong(of + ": expected an argument " + in_quotes(names_[i]) + ", found none");
}

const Value& Bound::operator[](std::size_t i) const {
  static const Value none;
  return has(i) ? *values_[i] : none;
}

bool Bound::truth_of(const Value& value) { return truth(value); }

std::int64_t Bound::integer(std::size_t i, std::int64_t otherwise) const {
  if (!has(i)) return otherwise;
  const auto out = integer_of(*values_[i]);
  if (!out) expected(i, "an integer");
  return *out;
}

const Text& Bound::text(std::size_t i) const {
  const auto* string = (*this)[i].as<String>();
  if (string == nullptr) expected(i, "a string");
  return plain_text(runtime_, *string);
}

void Bound::expected(std::size_t i, std::string_view what) const {
  if (const auto* undefined = values_[i]->as<Undefined>()) runtime_.wrong(*undefined->why);
  runtime_.wrong(in_quotes(function_) + ": expected " + std::string(what) + " for " + in_quotes(names_[i]) +
                 ", found a value of type " + std::string(type_name(*values_[i])));
}

}  // namespace pith::text::jinja
