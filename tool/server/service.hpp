// SPDX-License-Identifier: MIT
// The endpoints: who may ask what, and what becomes of it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/ask.hpp"
#include "server/engine.hpp"
#include "server/http.hpp"

namespace pith::tool {

struct ServiceLimits {
  AskLimits ask;
  std::size_t requests = 128;      // that run or wait, each answer counted
  std::chrono::seconds time{600};  // for one request
};

class Service {
 public:
  /// `keys`: with none, whoever can connect may ask. `is_local`: only this machine can connect, and no page of another
  /// site may. `log`: hears a line for each request.
  Service(Words words, std::vector<std::unique_ptr<Engine>> engines, std::vector<std::string> keys, bool is_local,
          bool has_page, ServiceLimits limits, std::function<void(const std::string&)> log);

  void add_to(HttpServer& server);

  /// What a server says for itself.
  static std::string refusal(int status, const std::string& why);
  void log(const std::string& client, const std::string& what, int status, const std::string& more) const;

  /// No request begins any more; those that have, end soon after cancel_all().
  void drain() { draining_ = true; }
  void cancel_all() { cancelling_ = true; }
  std::size_t pending() const { return pending_; }

  /// Once the server has ended: nothing is held any more. Returns the bytes of pages that somebody holds all the same.
  std::size_t let_go();

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;
  class Run;

  struct Endpoint {
    const char* path;
    const char* method;
    bool is_open;  // needs no key
    void (Service::*answer)(const Request&, Response&);
  };
  static const std::vector<Endpoint> endpoints;

  void admit(const Request& request, Response& response) const;
  void guarded(const Endpoint& endpoint, const Request& request, Response& response);
  void page(const Request& request, Response& response);
  void health(const Request& request, Response& response);
  void models(const Request& request, Response& response);
  void metrics(const Request& request, Response& response);
  void tokenize(const Request& request, Response& response);
  void chat(const Request& request, Response& response) { complete(request, response, Form::chat); }
  void completion(const Request& request, Response& response) { complete(request, response, Form::completion); }
  void complete(const Request& request, Response& response, Form form);
  void log(const Request& request, int status, const std::string& more = "") const;
  Engine& engine_of(const Ask& ask) const;

  const Words words_;
  const std::vector<std::string> keys_;
  const bool is_local_, has_page_;
  const ServiceLimits limits_;
  const std::function<void(const std::string&)> log_;
  const std::string instance_;  // what ids begin with
  HttpServer* server_ = nullptr;
  std::atomic<std::uint64_t> next_id_ = 0, refused_ = 0;
  std::atomic<std::size_t> pending_ = 0;
  std::atomic<bool> draining_ = false, cancelling_ = false;
  std::vector<std::unique_ptr<Engine>> engines_;  // at least one, the first is what who asks for none gets; go first
};

/// Whether the two are equal, in a time that depends on their lengths alone.
bool same_secret(std::string_view a, std::string_view b);

}  // namespace pith::tool
