// SPDX-License-Identifier: MIT
#include "input.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "pith/error.hpp"

namespace pith::tool {

Input::Input() {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  read_ = ends[0];
  write_ = ends[1];
  for (const int end : ends) {
    fcntl(end, F_SETFD, FD_CLOEXEC);
    fcntl(end, F_SETFL, O_NONBLOCK);
  }
}

Input::~Input() {
  close(read_);
  close(write_);
}

bool Input::is_terminal() { return isatty(STDIN_FILENO) == 1; }

/// Until there is something to read, or the end of it.
void Input::wait(const std::stop_token& stop) {
  const std::stop_callback wake(stop, [this] { [[maybe_unused]] const auto written = write(write_, "", 1); });
  std::array<pollfd, 2> both = {{{STDIN_FILENO, POLLIN, 0}, {read_, POLLIN, 0}}};
  while (poll(both.data(), both.size(), -1) < 0 && errno == EINTR) {
  }
  for (char byte = 0; read(read_, &byte, 1) == 1;) {
  }
}

std::optional<std::string> Input::line(std::stop_token stop) {
  for (;;) {
    if (stop.stop_requested()) {
      pending_.clear();
      return std::nullopt;
    }
    const auto end = pending_.find('\n');
    if (end != std::string::npos) {
      std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    if (ended_) {
      if (pending_.empty()) return std::nullopt;
      pending_ += '\n';  // the last line need not have an end
      continue;
    }
    wait(stop);
    if (stop.stop_requested()) continue;
    std::array<char, 4096> bytes{};
    const ssize_t count = read(STDIN_FILENO, bytes.data(), bytes.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) fail(ErrorCode::file, "standard input: cannot be read (" + std::string(std::strerror(errno)) + ")");
    if (count == 0) ended_ = true;
    pending_.append(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  }
}

}  // namespace pith::tool
