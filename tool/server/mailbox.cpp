// SPDX-License-Identifier: MIT
#include "server/mailbox.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "server/http.hpp"

namespace pith::tool {

Mailbox::Mailbox() {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  read_ = ends[0];
  write_ = ends[1];
  for (const int end : ends) {
    fcntl(end, F_SETFD, FD_CLOEXEC);
    fcntl(end, F_SETFL, O_NONBLOCK);
  }
}

Mailbox::~Mailbox() {
  close(read_);
  close(write_);
}

void Mailbox::put(Part part) {
  const std::lock_guard lock(mutex_);
  parts_.push_back(std::move(part));
  if (parts_.size() > 1) return;  // one byte stands for all mail that waits
  [[maybe_unused]] const auto written = write(write_, "", 1);
}

Mailbox::Woken Mailbox::wait(int socket, std::chrono::steady_clock::time_point until) {
  using namespace std::chrono;
  bool chatty = false;  // bytes of its next request wait at the socket, which is readable for good
  for (;;) {
    const auto left = ceil<milliseconds>(until - steady_clock::now()).count();
    if (left <= 0) return Woken::late;
    constexpr long long longest = 1000, chatty_longest = 20;
    std::array<pollfd, 2> watched{pollfd{read_, POLLIN, 0}, pollfd{socket, static_cast<short>(chatty ? 0 : POLLIN), 0}};
    const auto time = std::min<long long>(left, chatty ? chatty_longest : longest);
    if (poll(watched.data(), watched.size(), static_cast<int>(time)) < 0 && errno != EINTR)
      throw std::system_error(errno, std::generic_category(), "poll");
    if (is_gone(socket)) return Woken::gone;
    if ((watched[0].revents & POLLIN) != 0) return Woken::mail;
    chatty = chatty || (watched[1].revents & POLLIN) != 0;
  }
}

std::vector<Part> Mailbox::take() {
  const std::lock_guard lock(mutex_);
  char byte = 0;
  [[maybe_unused]] const auto count = read(read_, &byte, 1);
  return std::exchange(parts_, {});
}

}  // namespace pith::tool
