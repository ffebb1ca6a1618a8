// SPDX-License-Identifier: MIT
#include "server/http.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "numbers.hpp"
#include "pith/error.hpp"

namespace pith::tool {

namespace {

using Clock = std::chrono::steady_clock;

/// Under this name a request is told its socket: no client can send it, as it is none of `known`.
constexpr const char* socket_header = "SOCKET";

/// Connections too many that are told so at a time.
constexpr std::size_t most_refused = 32;

/// The headers that are handed on. Ranges, compressed and multipart bodies are nobody's wish here.
constexpr std::array<std::string_view, 7> known = {"host",          "origin",         "connection", "content-type",
                                                   "authorization", "content-length", "user-agent"};

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// True once the socket has one of the events, false when it is time.
bool wait(int socket, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd watched{socket, events, 0};
    const int count = poll(&watched, 1, static_cast<int>(std::clamp<long long>(left, 0, 1000)));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return true;  // the call that follows says it
    if (left <= 0) return false;
  }
}

struct Fault {
  int status;
  std::string why;
};

/// What a client sends and is sent, as httplib's stream.
class Connection final : public httplib::Stream {
 public:
  Connection(int socket, const HttpLimits& limits) : socket_(socket), limits_(limits) {}

  bool is_readable() const override { return true; }
  bool is_writable() const override { return !is_gone(socket_); }
  socket_t socket() const override { return socket_; }
  void get_remote_ip_and_port(std::string& ip, int& port) const override { address(getpeername, ip, port); }
  void get_local_ip_and_port(std::string& ip, int& port) const override { address(getsockname, ip, port); }

  /// The head that httplib is to see, then the rest of the request. Never beyond it.
  ssize_t read(char* out, std::size_t size) override {
    if (at_ < head_.size()) {
      const std::size_t count = head_.copy(out, size, at_);
      at_ += count;
      return static_cast<ssize_t>(count);
    }
    size = std::min(size, body_left_);
    if (size == 0) return 0;
    if (const std::size_t count = ahead_.copy(out, size); count > 0) {
      ahead_.erase(0, count);
      body_left_ -= count;
      return static_cast<ssize_t>(count);
    }
    const ssize_t count = receive(out, size);
    if (count > 0) body_left_ -= static_cast<std::size_t>(count);
    return count > 0 ? count : -1;
  }

  ssize_t write(const char* data, std::size_t size) override {
    const auto until = Clock::now() + limits_.write;
    for (;;) {
      const ssize_t count = send(socket_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count >= 0) return count;
      if (errno == EINTR) continue;
      if (errno != EAGAIN || !wait(socket_, POLLOUT, until)) return -1;
    }
  }

  /// Whether there is another request before the connection has been idle for too long.
  bool next(const std::atomic<bool>& closing) {
    if (!ahead_.empty()) return true;
    constexpr auto often = std::chrono::milliseconds(100);
    for (const auto until = Clock::now() + limits_.idle; !closing && Clock::now() < until;)
      if (wait(socket_, POLLIN, Clock::now() + often)) return !closing;
    return false;
  }

  /// Reads a request up to its body. None: the client left.
  /// Throws Fault.
  bool read_head() {
    until_ = Clock::now() + limits_.read;
    at_ = 0;
    head_.clear();
    std::size_t end = 0;
    while ((end = ahead_.find("\r\n\r\n")) == std::string::npos) {
      if (ahead_.size() > limits_.head)
        throw Fault{431, "the request has more than " + std::to_string(limits_.head) + " bytes before its body"};
      std::array<char, 4096> bytes{};
      const ssize_t count = receive(bytes.data(), bytes.size());
      if (count == 0 || (count < 0 && ahead_.empty())) return false;
      if (count < 0) throw Fault{408, "the request did not arrive in " + std::to_string(limits_.read.count()) + " s"};
      ahead_.append(bytes.data(), static_cast<std::size_t>(count));
    }
    if (end > limits_.head)
      throw Fault{431, "the request has more than " + std::to_string(limits_.head) + " bytes before its body"};
    const std::string all = ahead_.substr(0, end + 2);
    ahead_.erase(0, end + 4);
    filter(all);
    return true;
  }

  /// Whether the request has been read to its end.
  bool is_read() const { return body_left_ == 0; }

  /// Lets a client that is still sending read its answer: a socket closed over unread bytes takes the answer with it.
  void linger() {
    shutdown(socket_, SHUT_WR);
    const auto until = Clock::now() + std::chrono::seconds(2);
    std::array<char, 4096> bytes{};
    std::size_t total = 0;
    while (total < limits_.body && wait(socket_, POLLIN, until)) {
      const ssize_t count = recv(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (count <= 0) return;
      total += static_cast<std::size_t>(count);
    }
  }

 private:
  template <class F>
  void address(F get, std::string& ip, int& port) const {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> service{};
    auto* const address = reinterpret_cast<sockaddr*>(&storage);
    if (get(socket_, address, &size) != 0 || getnameinfo(address, size, host.data(), host.size(), service.data(),
                                                         service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
      return;
    ip = host.data();
    port = std::atoi(service.data());
  }

  /// 0: the client left, -1: it was too slow.
  ssize_t receive(char* out, std::size_t size) {
    for (;;) {
      if (!wait(socket_, POLLIN, until_)) return -1;
      const ssize_t count = recv(socket_, out, size, MSG_DONTWAIT);
      if (count >= 0) return count;
      if (errno != EINTR && errno != EAGAIN) return 0;
    }
  }

  /// Takes from the request's lines what is to be handed on, and how long its body is.
  void filter(std::string_view lines) {
    body_left_ = 0;
    if (lines.find('\0') != std::string_view::npos) throw Fault{400, "a zero byte in the request's head"};
    const std::size_t first = lines.find("\r\n");
    head_ = lines.substr(0, first + 2);
    lines.remove_prefix(first + 2);
    std::vector<std::string> seen;
    bool expects = false;
    while (!lines.empty()) {
      const std::size_t end = lines.find("\r\n");
      const std::string_view line = lines.substr(0, end);
      lines.remove_prefix(end + 2);
      const std::size_t colon = line.find(':');
      if (colon == std::string_view::npos || colon == 0 ||
          line.substr(0, colon).find_first_of(" \t") != std::string::npos)
        throw Fault{400, "a header that is none"};
      const std::string name = lower(line.substr(0, colon));
      const std::string_view value = trimmed(line.substr(colon + 1));
      if (name == "transfer-encoding") throw Fault{411, "a body has to say its length (Content-Length)"};
      if (name == "content-encoding" && lower(value) != "identity")
        throw Fault{415, "a body may not be compressed (Content-Encoding)"};
      if (name == "expect" && lower(value) == "100-continue") expects = true;
      if (std::ranges::find(known, name) == known.end()) continue;
      if (std::ranges::find(seen, name) != seen.end()) throw Fault{400, "two headers named " + name};
      seen.push_back(name);
      if (name == "content-length") {
        const auto length = number<std::uint64_t>(value);
        if (!length) throw Fault{400, "a Content-Length that is no number"};
        if (*length > limits_.body)
          throw Fault{413, "a body may have at most " + std::to_string(limits_.body) + " bytes, this one has " +
                               std::string(value)};
        body_left_ = static_cast<std::size_t>(*length);
      }
      head_.append(name).append(": ").append(value).append("\r\n");
    }
    const bool brings = head_.starts_with("POST ") || head_.starts_with("PUT ") || head_.starts_with("PATCH ");
    if (brings && std::ranges::find(seen, "content-length") == seen.end())
      throw Fault{411, "a body has to say its length (Content-Length)"};
    // httplib reads the bodies of these to the connection's end where no length is said.
    if ((head_.starts_with("DELETE ") || head_.starts_with("PRI ")) && body_left_ == 0)
      head_ += "content-length: 0\r\n";
    head_ += "\r\n";
    if (expects && body_left_ > 0) httplib::Stream::write("HTTP/1.1 100 Continue\r\n\r\n");
  }

  const int socket_;
  const HttpLimits& limits_;
  Clock::time_point until_{};  // when the request has to be there
  std::string head_;           // as httplib is to see it
  std::size_t at_ = 0;         // read of it
  std::string ahead_;          // received behind the head
  std::size_t body_left_ = 0;
};

/// A thread for each connection.
class ConnectionThreads final : public httplib::TaskQueue {
 public:
  explicit ConnectionThreads(std::size_t most) : most_(most) {}

  void enqueue(std::function<void()> converse) override {
    std::erase_if(threads_, [](Worker& worker) {
      if (!*worker.done) return false;
      worker.thread.join();
      return true;
    });
    // There is not even one to refuse it: it is closed without a word.
    if (threads_.size() >= most_) return converse();
    auto done = std::make_shared<std::atomic<bool>>(false);
    std::thread thread([converse = std::move(converse), done] {
      converse();
      *done = true;
    });
    threads_.push_back({std::move(thread), std::move(done)});
  }

  void shutdown() override {
    for (Worker& worker : threads_) worker.thread.join();
    threads_.clear();
  }

 private:
  struct Worker {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> done;
  };
  const std::size_t most_;
  std::list<Worker> threads_;
};

}  // namespace

HttpServer::HttpServer(HttpLimits limits, Refusal refusal, Refused refused)
    : limits_(limits), refusal_(std::move(refusal)), refused_(std::move(refused)) {
  new_task_queue = [this] { return new ConnectionThreads(limits_.connections + most_refused); };
  set_payload_max_length(limits_.body);
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  set_tcp_nodelay(true);
}

int HttpServer::bind(const std::string& host, int port) {
  errno = 0;
  const int bound = port == 0 ? bind_to_any_port(host) : bind_to_port(host, port) ? port : -1;
  if (bound < 0)
    fail(ErrorCode::state, "cannot listen on " + host + ":" + std::to_string(port) +
                               (errno != 0 ? ": " + std::generic_category().message(errno) : ""));
  // httplib's own queue of five drops clients that come together.
  ::listen(svr_sock_, SOMAXCONN);
  return bound;
}

void HttpServer::serve() {
  listen_after_bind();
  ended_ = true;
}

void HttpServer::close() {
  closing_ = true;
  while (!is_running() && !ended_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  stop();
}

bool HttpServer::process_and_close_socket(socket_t socket) {
  ++connections_;
  try {
    converse(socket);
  } catch (const std::exception&) {  // of memory: this connection ends, the others go on
  }
  shutdown(socket, SHUT_RDWR);
  ::close(socket);
  --connections_;
  return true;
}

void HttpServer::converse(socket_t socket) {
  Connection connection(socket, limits_);
  const int yes = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  try {
    if (connections_ > limits_.connections + most_refused) return;
    if (connections_ > limits_.connections)
      throw Fault{503, "there are " + std::to_string(limits_.connections) + " connections already"};
    while (connection.next(closing_) && connection.read_head()) {
      bool closed = false;
      const auto set_up = [&](httplib::Request& request) { request.set_header(socket_header, std::to_string(socket)); };
      if (!process_request(connection, false, closed, set_up)) break;
      if (!connection.is_read()) return connection.linger();
      if (closed) break;
    }
  } catch (const Fault& fault) {
    const std::string body = refusal_(fault.status, fault.why);
    httplib::Stream& stream = connection;
    const std::string answer = "HTTP/1.1 " + std::to_string(fault.status) +
                               " Refused\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
                               std::to_string(body.size()) + "\r\n\r\n" + body;
    stream.write(answer);
    std::string client;
    int port = 0;
    connection.get_remote_ip_and_port(client, port);
    refused_(client + ":" + std::to_string(port), fault.status, fault.why);
    connection.linger();
  }
}

int socket_of(const httplib::Request& request) { return std::stoi(request.get_header_value(socket_header)); }

bool is_gone(int socket) {
  pollfd watched{socket, POLLIN, 0};
  if (poll(&watched, 1, 0) <= 0) return false;
  if ((watched.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) return true;
  char byte = 0;
  const ssize_t count = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR);
}

}  // namespace pith::tool
