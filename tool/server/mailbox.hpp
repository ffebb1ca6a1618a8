// SPDX-License-Identifier: MIT
// From the thread that generates to the thread of a client, which waits for its tokens and watches its connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pith/cache/drop_log.hpp"
#include "pith/generator.hpp"

namespace pith::tool {

/// What a sequence holds at its end.
struct Held {
  std::uint64_t rows_seen = 0, rows_dropped = 0;
  std::size_t bytes = 0, bytes_dense = 0;
};

/// A Piece that lasts.
struct Part {
  std::size_t choice = 0;  // which of the answers to one request
  std::string text;
  std::optional<Token> token;
  std::optional<float> logprob;
  std::vector<TokenLogprob> top;
  std::optional<Finish> finish;
  std::exception_ptr error;
  std::size_t reused = 0;  // of its prompt, tokens that were not read
  // Where it was asked for:
  bool again = false;                                  // the sequence was lost and is read again: nothing is dropped
  std::vector<std::pair<Position, unsigned>> drops{};  // tokens, and rows of each that were dropped since the last part
  std::uint64_t rows_per_token = 0;
  std::optional<Held> held{};  // with `finish`
};

class Mailbox {
 public:
  Mailbox();
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  void put(Part part);  // any thread

  enum class Woken { mail, gone, late };
  /// Until there is mail, the client at the socket has gone, or it is time.
  Woken wait(int socket, std::chrono::steady_clock::time_point until);

  /// All that has come since; may be none.
  std::vector<Part> take();

 private:
  std::mutex mutex_;
  std::vector<Part> parts_;
  int read_ = -1, write_ = -1;  // ends of a pipe, so that one poll() sees mail and socket
};

}  // namespace pith::tool
