// SPDX-License-Identifier: MIT
#include "tool.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

namespace pith::tool {

Exit exit_for(ErrorCode code) {
  switch (code) {
    case ErrorCode::file:
    case ErrorCode::format:
    case ErrorCode::model:
      return Exit::file;
    case ErrorCode::unsupported:
      return Exit::unsupported;
    case ErrorCode::argument:
      return Exit::usage;
    case ErrorCode::cancelled:
      return Exit::interrupted;
    case ErrorCode::budget:
    case ErrorCode::state:
      return Exit::runtime;
  }
  return Exit::runtime;
}

void Tool::note(std::string_view line) const {
  if (verbosity != Verbosity::quiet) std::cerr << "pith: " << line << '\n';
}

void Tool::warn(std::string_view line) const { note("warning: " + std::string(line)); }

void Tool::detail(std::string_view line) const {
  if (verbosity == Verbosity::verbose) std::cerr << "pith: " << line << '\n';
}

void print(const nlohmann::ordered_json& json) {
  std::cout << json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

bool is_terminal(Stream stream) { return isatty(stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO) == 1; }

bool has_colour(Stream stream) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return is_terminal(stream) && (no_color == nullptr || *no_color == '\0') &&
         (term == nullptr || std::string_view(term) != "dumb");
}

void Progress::show(std::string_view text) {
  if (!shown_) return;
  clear();
  std::cerr << "pith: " << text << std::flush;
  dirty_ = true;
}

void Progress::clear() {
  if (dirty_) std::cerr << "\r\x1b[K" << std::flush;  // to the line's start, and erase it
  dirty_ = false;
}

std::string number_text(double value, int decimals) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  return text.data();
}

std::string percent_text(double fraction) { return number_text(100 * fraction, fraction < 0.1 ? 1 : 0) + "%"; }

std::string bytes_text(double bytes) {
  constexpr std::array units = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return number_text(bytes, 0) + " bytes";
  std::size_t unit = 0;
  for (bytes /= 1024; bytes >= 1024 && unit + 1 < units.size(); ++unit) bytes /= 1024;
  return number_text(bytes, bytes < 100 ? 1 : 0) + " " + units[unit];
}

}  // namespace pith::tool
