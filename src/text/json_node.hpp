// SPDX-License-Identifier: MIT
// A JSON value that knows where it stands, so that what is wrong with it can be said in full.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "files/json.hpp"

namespace pith::text {

class JsonNode {
 public:
  /// Both must outlive the node.
  JsonNode(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }

  /// A member of an object: throws Error (format) where it is absent, nothing where it is absent or null.
  JsonNode at(std::string_view key) const;
  std::optional<JsonNode> find(std::string_view key) const;

  // Each throws Error (format) where the value is of another kind.
  const std::string& text() const;
  bool flag() const;
  std::int64_t integer() const;
  std::size_t count() const;  // an integer from 0
  std::vector<JsonNode> items() const;
  void require_object() const;

  bool flag_or(std::string_view key, bool fallback) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;

  /// Throws Error (format): expected this, found what is here.
  [[noreturn]] void refuse(std::string_view expected) const;
  /// Throws Error (unsupported), naming what is not done.
  [[noreturn]] void unsupported(std::string_view what) const;

 private:
  JsonNode member(std::string_view key, const nlohmann::json& value) const;

  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace pith::text
