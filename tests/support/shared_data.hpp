// SPDX-License-Identifier: MIT
// Real models and texts that do not come with this repository: tests that want them skip where they are absent.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

namespace pith::test {

/// The folder that the environment variable PITH_SHARED names, else the one the build was told of.
inline std::filesystem::path shared_folder() {
  const char* named = std::getenv("PITH_SHARED");
  return named != nullptr && *named != '\0' ? named : PITH_SHARED_DIR;
}

/// A path below it; empty where there is no such thing. To be followed by
/// `if (path.empty()) GTEST_SKIP() << shared_absent("models/…");`
inline std::filesystem::path shared_data(std::string_view relative) {
  const auto path = shared_folder() / relative;
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? path : std::filesystem::path();
}

inline std::string shared_absent(std::string_view relative) {
  return "needs " + (shared_folder() / relative).string() + " (PITH_SHARED names another folder)";
}

}  // namespace pith::test
