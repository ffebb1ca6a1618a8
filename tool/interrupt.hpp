// SPDX-License-Identifier: MIT
// Ctrl-C, and what else asks a program to end, as a std::stop_token: the first one asks to stop, the second one kills.
#pragma once

#include <array>
#include <csignal>
#include <stop_token>
#include <thread>

namespace pith::tool {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP is a request to stop. One at a time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const { return source_.get_token(); }
  bool requested() const { return source_.stop_requested(); }

 private:
  std::stop_source source_;
  int read_ = -1, write_ = -1;                   // ends of a pipe: a signal handler may write, but not request a stop
  std::array<struct sigaction, 3> before_ = {};  // of each signal
  std::thread listener_;
};

}  // namespace pith::tool
