// SPDX-License-Identifier: MIT
// Standard input line by line, where waiting for a line can be given up.
#pragma once

#include <optional>
#include <stop_token>
#include <string>

namespace pith::tool {

class Input {
 public:
  Input();
  ~Input();
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  /// The next line without its end. None: there are no more, or `stop` was asked to; what was typed is then dropped.
  /// Throws Error (file) where it cannot be read.
  std::optional<std::string> line(std::stop_token stop);

  static bool is_terminal();

 private:
  void wait(const std::stop_token& stop);

  std::string pending_;  // bytes behind the last line
  bool ended_ = false;
  int read_ = -1, write_ = -1;  // ends of a pipe that wakes a wait
};

}  // namespace pith::tool
