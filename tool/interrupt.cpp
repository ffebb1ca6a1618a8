// SPDX-License-Identifier: MIT
#include "interrupt.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>

namespace pith::tool {

namespace {

std::atomic<int> signalled = -1;  // where the handler writes
static_assert(std::atomic<int>::is_always_lock_free);

constexpr std::array signals = {SIGINT, SIGTERM, SIGHUP};

void on_interrupt(int signal) {
  const int saved = errno;
  const auto byte = static_cast<char>(signal);
  [[maybe_unused]] const auto written = write(signalled.load(), &byte, 1);
  errno = saved;
}

}  // namespace

Interrupt::Interrupt(Second second) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  read_ = ends[0];
  write_ = ends[1];
  for (const int end : ends) fcntl(end, F_SETFD, FD_CLOEXEC);
  signalled = write_;
  listener_ = std::thread([this] {
    for (char byte = 0;;) {
      const ssize_t count = read(read_, &byte, 1);
      if (count < 0 && errno == EINTR) continue;
      if (count != 1) return;
      const std::lock_guard lock(mutex_);
      signal_ = byte;
      source_.request_stop();
    }
  });
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  for (std::size_t i = 0; i < signals.size(); ++i) {
    action.sa_flags = SA_RESTART;
    // The second one finds the default: it kills.
    if (second == Second::kills || signals[i] != SIGINT) action.sa_flags |= static_cast<int>(SA_RESETHAND);
    sigaction(signals[i], &action, &before_[i]);
    // nohup: whoever ignores hanging up wants it to be ignored.
    if (signals[i] == SIGHUP && before_[i].sa_handler == SIG_IGN) sigaction(SIGHUP, &before_[i], nullptr);
  }
}

std::stop_token Interrupt::token() const {
  const std::lock_guard lock(mutex_);
  return source_.get_token();
}

int Interrupt::signal() const {
  const std::lock_guard lock(mutex_);
  return signal_;
}

void Interrupt::renew() {
  const std::lock_guard lock(mutex_);
  source_ = std::stop_source();
  signal_ = 0;
}

Interrupt::~Interrupt() {
  for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &before_[i], nullptr);
  close(write_);  // the listener reads its end
  listener_.join();
  close(read_);
}

}  // namespace pith::tool
