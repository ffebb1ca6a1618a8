// SPDX-License-Identifier: MIT
// What all subcommands share: how they end, and where they write.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "pith/error.hpp"

namespace pith::tool {

/// Scripts rely on these.
enum class Exit : int { ok = 0, runtime = 1, usage = 2, file = 3, unsupported = 4, interrupted = 130 };

Exit exit_for(ErrorCode code);

enum class Verbosity { quiet, normal, verbose };

/// What holds for every subcommand, and the one that the command line chose.
struct Tool {
  bool json = false;
  Verbosity verbosity = Verbosity::normal;
  std::string isa;  // empty = the best one
  std::function<Exit()> command;

  /// A line on stderr, unless -q was given.
  void note(std::string_view line) const;
  /// The same for what may not be as one thinks.
  void warn(std::string_view line) const;
  /// A line on stderr if -v was given.
  void detail(std::string_view line) const;
};

/// One line of JSON on stdout; bytes that are not UTF-8 become U+FFFD.
void print(const nlohmann::ordered_json& json);

enum class Stream { out, err };
bool is_terminal(Stream stream);
bool has_colour(Stream stream);  // a terminal, and NO_COLOR is not set (no-color.org)

/// One line on stderr that overwrites itself; nothing where stderr is no terminal, or with -q.
class Progress {
 public:
  explicit Progress(const Tool& tool) : shown_(tool.verbosity != Verbosity::quiet && is_terminal(Stream::err)) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(std::string_view text);
  void clear();

 private:
  bool shown_;
  bool dirty_ = false;
};

/// "1.5 MiB", "31%", "12.3"
std::string bytes_text(double bytes);
std::string percent_text(double fraction);
std::string number_text(double value, int decimals);

}  // namespace pith::tool
