// SPDX-License-Identifier: MIT
// Models that people run, in the folder that the environment variable PITH_MODELS names: tests that want them skip
// where they are absent.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace pith::test {

/// A path below it; empty where there is no such thing. To be followed by
/// `if (path.empty()) GTEST_SKIP() << real_absent("NAME");`
inline std::filesystem::path real_model(std::string_view relative) {
  const char* folder = std::getenv("PITH_MODELS");
  if (folder == nullptr || *folder == '\0') return {};
  const auto path = std::filesystem::path(folder) / relative;
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? path : std::filesystem::path();
}

inline std::string real_absent(std::string_view relative) {
  return "needs " + std::string(relative) + " in the folder that PITH_MODELS names";
}

}  // namespace pith::test
