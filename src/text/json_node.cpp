// SPDX-License-Identifier: MIT
#include "text/json_node.hpp"

#include <limits>

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::text {

namespace {

using Json = nlohmann::json;

std::string describe(const Json& value) {
  if (value.is_string()) return "the string " + in_quotes(value.get_ref<const std::string&>());
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  if (value.is_object()) return "an object";
  return value.dump();
}

}  // namespace

JsonNode JsonNode::member(std::string_view key, const Json& value) const {
  return {value, where_ + ": " + printable(key)};
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  require_object();
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return {};
  return member(key, *found);
}

JsonNode JsonNode::at(std::string_view key) const {
  require_object();
  const auto found = value_->find(key);
  if (found == value_->end()) fail(ErrorCode::format, where_, "an object with " + in_quotes(key), "none");
  return member(key, *found);
}

const std::string& JsonNode::text() const {
  if (!value_->is_string()) refuse("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::flag() const {
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::integer() const {
  if (!value_->is_number_integer()) refuse("an integer");
  if (value_->is_number_unsigned() &&
      value_->get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()})
    refuse("an integer below 2^63");
  return value_->get<std::int64_t>();
}

std::size_t JsonNode::count() const {
  const std::int64_t number = integer();
  if (number < 0) refuse("an integer from 0");
  return static_cast<std::size_t>(number);
}

std::vector<JsonNode> JsonNode::items() const {
  if (!value_->is_array()) refuse("an array");
  std::vector<JsonNode> out;
  out.reserve(value_->size());
  for (const Json& item : *value_) out.push_back({item, where_ + "[" + std::to_string(out.size()) + "]"});
  return out;
}

void JsonNode::require_object() const {
  if (!value_->is_object()) refuse("an object");
}

bool JsonNode::flag_or(std::string_view key, bool fallback) const {
  const auto found = find(key);
  return found ? found->flag() : fallback;
}

std::string JsonNode::text_or(std::string_view key, std::string_view fallback) const {
  const auto found = find(key);
  return found ? found->text() : std::string(fallback);
}

void JsonNode::refuse(std::string_view expected) const { fail(ErrorCode::format, where_, expected, describe(*value_)); }

void JsonNode::unsupported(std::string_view what) const {
  fail(ErrorCode::unsupported, where_ + ": " + std::string(what) + " is not supported");
}

}  // namespace pith::text
