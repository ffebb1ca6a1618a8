// SPDX-License-Identifier: MIT
// The one place where JSON text becomes a value: bounded in depth, errors with file and position.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

namespace pith::inline files {

/// `where` names the source in errors. Nesting beyond 64 levels is refused. Throws Error (format).
nlohmann::json parse_json(std::string_view text, std::string_view where);

/// Throws Error (file, format).
nlohmann::json read_json(const std::filesystem::path& path);

}  // namespace pith::inline files
