// SPDX-License-Identifier: MIT
// Why a request is not served, as the OpenAI API says it.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace pith::tool {

using Json = nlohmann::ordered_json;

struct Refusal : std::runtime_error {
  Refusal(int http_status, const std::string& message, std::string of = "", std::string by = "")
      : std::runtime_error(message), status(http_status), param(std::move(of)), code(std::move(by)) {}

  int status;
  std::string param;  // the field that is wrong; empty: none
  std::string code;   // a word for programs; empty: none

  Json json() const {
    const auto or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
    return {{"error", {{"message", what()}, {"type", type()}, {"param", or_null(param)}, {"code", or_null(code)}}}};
  }

 private:
  const char* type() const {
    if (status == 401) return "authentication_error";
    if (status == 429) return "rate_limit_error";
    return status < 500 ? "invalid_request_error" : "server_error";
  }
};

/// As a text; bytes that are not UTF-8 become U+FFFD.
inline std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace pith::tool
