// SPDX-License-Identifier: MIT
// HTTP for clients that cannot be trusted: cpp-httplib behind a reader of requests that knows what is too long, too
// slow and too much. Knows nothing of models.
#pragma once

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

namespace pith::tool {

struct HttpLimits {
  std::size_t head = 16 << 10;              // bytes of a request before its body
  std::size_t body = std::size_t{4} << 20;  // bytes
  std::size_t connections = 256;
  std::chrono::seconds read{30};   // for the whole of a request to arrive
  std::chrono::seconds write{30};  // for a client to take any of what it is sent
  std::chrono::seconds idle{5};    // between requests of one connection
};

/// A connection has a thread, and a request is handed on once its head is there: only the headers that matter here,
/// one of each. Bodies say their length. What is refused before that is answered here, in the words of `refusal`.
class HttpServer final : public httplib::Server {
 public:
  /// The body of an answer with this status: JSON.
  using Refusal = std::function<std::string(int status, const std::string& why)>;
  /// Told of each answer that no handler gave: status, and why.
  using Refused = std::function<void(const std::string& client, int status, const std::string& why)>;

  HttpServer(HttpLimits limits, Refusal refusal, Refused refused);

  /// Returns the port, which is a free one for 0. Throws Error (argument, state) where it cannot.
  int bind(const std::string& host, int port);

  /// Answers until close(), and then until the last connection has been answered.
  void serve();

  /// No more connections, and no more requests of those that are there; any thread, once serve() is called.
  void close();

  std::size_t connections() const { return connections_; }

 private:
  bool process_and_close_socket(socket_t socket) override;
  void converse(socket_t socket);

  const HttpLimits limits_;
  const Refusal refusal_;
  const Refused refused_;
  std::atomic<std::size_t> connections_ = 0;
  std::atomic<bool> closing_ = false, ended_ = false;
};

/// The socket that a request came by.
int socket_of(const httplib::Request& request);

/// Whether its client has gone. Nobody who waits for an answer has a reason to close his end.
bool is_gone(int socket);

}  // namespace pith::tool
