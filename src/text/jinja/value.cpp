// SPDX-License-Identifier: MIT
#include "text/jinja/value.hpp"

#include <algorithm>
#include <array>

namespace pith::text::jinja {

Value* NamespaceData::find(std::string_view name) {
  const auto found = std::find_if(values.begin(), values.end(), [&](const auto& pair) { return pair.first == name; });
  return found == values.end() ? nullptr : &found->second;
}

std::string_view type_name(const Value& value) {
  constexpr std::array<std::string_view, 16> names = {
      "undefined", "NoneType",  "bool",  "int",       "float",     "str",  "list",     "tuple",
      "dict",      "dict view", "range", "generator", "namespace", "loop", "function", "macro"};
  static_assert(std::variant_size_v<Value::variant> == names.size());
  return names[value.index()];
}

int depth_of(const Value& value) {
  if (const Items* items = items_of(value)) return items->depth;
  if (const auto* dict = value.as<Dict>()) return dict->pairs->depth;
  if (const auto* view = value.as<View>()) return view->pairs->depth;
  if (const auto* iterator = value.as<Iterator>()) return iterator->depth;
  if (const auto* loop = value.as<Loop>()) return loop->data->depth;
  if (const auto* function = value.as<Function>(); function && function->self) return 1 + depth_of(*function->self);
  return 0;
}

const Items* items_of(const Value& value) {
  if (const auto* list = value.as<List>()) return list->items.get();
  if (const auto* tuple = value.as<Tuple>()) return tuple->items.get();
  return nullptr;
}

std::optional<std::int64_t> integer_of(const Value& value) {
  if (const auto* integer = value.as<std::int64_t>()) return *integer;
  if (const auto* flag = value.as<bool>()) return *flag ? 1 : 0;
  return {};
}

std::optional<double> number_of(const Value& value) {
  if (const auto* real = value.as<double>()) return *real;
  if (const auto integer = integer_of(value)) return static_cast<double>(*integer);
  return {};
}

const Value* find(const Pairs& pairs, std::string_view key) {
  for (const auto& [name, value] : pairs.pairs) {
    const auto* text = name.as<String>();
    if (text != nullptr && text->bytes() == key) return &value;
  }
  return nullptr;
}

}  // namespace pith::text::jinja
