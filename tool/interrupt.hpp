// SPDX-License-Identifier: MIT
// Ctrl-C, and what else asks a program to end, as a std::stop_token.
#pragma once

#include <array>
#include <csignal>
#include <mutex>
#include <stop_token>
#include <thread>

namespace pith::tool {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP is a request to stop. One at a time.
class Interrupt {
 public:
  /// What a second one does: a Ctrl-C may be meant for what is under way, and not for the program.
  enum class Second { kills, asks };  // asks: SIGINT alone; a second SIGTERM or SIGHUP kills
  explicit Interrupt(Second second = Second::kills);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const;
  bool requested() const { return token().stop_requested(); }
  int signal() const;  // the latest one, 0: none

  /// What was requested has been done: the next signal is a request of its own.
  void renew();

 private:
  mutable std::mutex mutex_;  // of the next two
  std::stop_source source_;
  int signal_ = 0;
  int read_ = -1, write_ = -1;                   // ends of a pipe: a signal handler may write, but not request a stop
  std::array<struct sigaction, 3> before_ = {};  // of each signal
  std::thread listener_;
};

}  // namespace pith::tool
