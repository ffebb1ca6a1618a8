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

void on_interrupt(int) {
  const int saved = errno;
  const char byte = 0;
  [[maybe_unused]] const auto written = write(signalled.load(), &byte, 1);
  errno = saved;
}

}  // namespace

Interrupt::Interrupt() {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  read_ = ends[0];
  write_ = ends[1];
  for (const int end : ends) fcntl(end, F_SETFD, FD_CLOEXEC);
  signalled = write_;
  listener_ = std::thread([this] {
    char byte = 0;
    ssize_t count = 0;
    while ((count = read(read_, &byte, 1)) < 0 && errno == EINTR) {
    }
    if (count == 1) source_.request_stop();
  });
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;  // the second one finds the default: it kills
  for (std::size_t i = 0; i < signals.size(); ++i) {
    sigaction(signals[i], &action, &before_[i]);
    // nohup: whoever ignores hanging up wants it to be ignored.
    if (signals[i] == SIGHUP && before_[i].sa_handler == SIG_IGN) sigaction(SIGHUP, &before_[i], nullptr);
  }
}

Interrupt::~Interrupt() {
  for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &before_[i], nullptr);
  close(write_);  // the listener reads its end
  listener_.join();
  close(read_);
}

}  // namespace pith::tool
