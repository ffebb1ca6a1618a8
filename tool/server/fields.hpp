// SPDX-License-Identifier: MIT
// The fields of a JSON object from outside, each read as what it must be. What nobody has read is refused in the end,
// so that a field that was misspelt does not pass for one that was left out.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "files/json.hpp"
#include "numbers.hpp"
#include "printable.hpp"
#include "server/refusal.hpp"

namespace pith::tool {

/// `where`: what its fields' names follow in messages, "pith." for one.
class Fields {
 public:
  explicit Fields(const nlohmann::json& object, std::string where = "") : object_(object), where_(std::move(where)) {
    if (!object.is_object())
      throw Refusal(400, (where_.empty() ? "the body" : where_.substr(0, where_.size() - 1)) +
                             ": expected a JSON object, found " + object.type_name());
  }

  /// The field; nothing where it is absent or null.
  const nlohmann::json* find(const std::string& name) {
    known_.insert(name);
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  template <class T>
  std::optional<T> number(const std::string& name, const Range<T>& range) {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return std::nullopt;
    return read(*value, name, range);
  }

  template <class T>
  T read(const nlohmann::json& value, const std::string& name, const Range<T>& range) const {
    if constexpr (std::integral<T>) {
      if (value.is_number_unsigned()) {
        const auto found = value.get<std::uint64_t>();
        if (found <= static_cast<std::uint64_t>(std::numeric_limits<T>::max()) && range.holds(static_cast<T>(found)))
          return static_cast<T>(found);
      } else if (value.is_number_integer() && std::signed_integral<T>) {
        const auto found = value.get<std::int64_t>();
        if (found >= static_cast<std::int64_t>(std::numeric_limits<T>::lowest()) && range.holds(static_cast<T>(found)))
          return static_cast<T>(found);
      }
    } else if (value.is_number()) {
      if (const auto found = value.get<double>(); range.holds(static_cast<T>(found))) return static_cast<T>(found);
    }
    refuse(name, range.text(), value);
  }

  bool flag(const std::string& name, bool fallback = false) {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) refuse(name, "true or false", *value);
    return value->get<bool>();
  }

  std::optional<std::string> text(const std::string& name) {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) refuse(name, "a text", *value);
    return value->get<std::string>();
  }

  /// What changes nothing here.
  void ignore(std::initializer_list<const char*> names) {
    for (const char* const name : names) known_.insert(name);
  }

  /// What can only be left out, or be one of these.
  void only(const std::string& name, std::initializer_list<nlohmann::json> values, const std::string& expected) {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return;
    for (const nlohmann::json& one : values)
      if (*value == one) return;
    refuse(name, expected + ", as nothing else is supported", *value);
  }

  /// Throws Refusal for a field that was not asked for.
  void end() const {
    for (const auto& [name, value] : object_.items())
      if (!known_.contains(name))
        throw Refusal(400, where_ + printable(name) + ": not a field of this request", where_ + printable(name),
                      "unknown_field");
  }

  [[noreturn]] void refuse(const std::string& name, const std::string& expected, const nlohmann::json& found) const {
    constexpr std::size_t longest = 60;
    std::string text = found.is_structured() ? (found.is_array() ? "an array" : "an object")
                                             : found.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (text.size() > longest) text = text.substr(0, longest) + "...";
    throw Refusal(400, where_ + name + ": expected " + expected + ", found " + text, where_ + name, "invalid_value");
  }

 private:
  const nlohmann::json& object_;
  const std::string where_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace pith::tool
