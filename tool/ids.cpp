// SPDX-License-Identifier: MIT
#include "ids.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

#include "pith/error.hpp"

namespace pith::tool {

namespace {

std::vector<Token> json_ids(const std::string& text, const std::string& where) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_object() && json.contains("tokens")) json = json["tokens"].get<nlohmann::json>();
  if (!json.is_array())
    fail(ErrorCode::format, where, "a JSON array of token ids", json.is_discarded() ? "no valid JSON" : "other JSON");
  std::vector<Token> ids;
  ids.reserve(json.size());
  for (const auto& id : json) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<Token>::max())
      fail(ErrorCode::format, where, "token ids",
           id.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 40));
    ids.push_back(id.get<Token>());
  }
  return ids;
}

}  // namespace

std::vector<Token> parse_ids(const std::string& text, const std::string& where) {
  constexpr std::string_view separators = " \t\r\n,";
  std::size_t at = text.find_first_not_of(separators);
  if (at == std::string::npos) return {};
  if (text[at] == '[' || text[at] == '{') return json_ids(text, where);
  std::vector<Token> ids;
  while (at != std::string::npos) {
    const std::size_t end = std::min(text.find_first_of(separators, at), text.size());
    Token id = -1;
    const auto [past, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || past != text.data() + end || id < 0)
      fail(ErrorCode::format, where, "token ids", "'" + text.substr(at, std::min<std::size_t>(end - at, 40)) + "'");
    ids.push_back(id);
    at = text.find_first_not_of(separators, end);
  }
  return ids;
}

}  // namespace pith::tool
