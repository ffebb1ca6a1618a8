// SPDX-License-Identifier: MIT
#include "server/service.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <exception>
#include <new>
#include <numeric>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include "pith/error.hpp"
#include "pith/version.hpp"
#include "printable.hpp"
#include "server/answer.hpp"
#include "server/mailbox.hpp"
#include "server/page.hpp"
#include "tool.hpp"

namespace pith::tool {

namespace {

using Clock = std::chrono::steady_clock;

/// The client has gone: nobody reads what would be said.
struct Gone {};

/// What nginx logs where a client leaves before he is answered.
constexpr int gone_status = 499;

std::string random_word() {
  std::random_device random;
  std::ostringstream out;
  for (int i = 0; i < 4; ++i) out << std::hex << random();
  return out.str();
}

void say(httplib::Response& response, int status, const Json& json) {
  response.status = status;
  response.set_content(text_of(json), "application/json");
}

void refuse(httplib::Response& response, const Refusal& refusal) {
  say(response, refusal.status, refusal.json());
  if (refusal.status == 429 || refusal.status == 503) response.set_header("Retry-After", "1");
  if (refusal.status == 401) response.set_header("WWW-Authenticate", "Bearer");
}

/// What a failure says to a client.
Refusal refusal_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Refusal& refusal) {
    return refusal;
  } catch (const Error& error) {
    switch (error.code()) {
      case ErrorCode::argument:
      case ErrorCode::format:  // of what a chat template raises
      case ErrorCode::unsupported:
        return Refusal(400, error.what());
      case ErrorCode::budget:
        return Refusal(503, error.what(), "", "no_room");
      default:
        return Refusal(500, error.what());
    }
  } catch (const std::bad_alloc&) {
    return Refusal(503, "out of memory", "", "no_room");
  } catch (const std::exception& error) {
    return Refusal(500, error.what());
  }
}

/// Without its port.
std::string_view host_of(std::string_view authority) {
  if (authority.starts_with('[')) return authority.substr(0, std::min(authority.find(']'), authority.size() - 1) + 1);
  return authority.substr(0, authority.find(':'));
}

bool names_this_machine(std::string_view host) {
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

std::string client_of(const httplib::Request& request) {
  return request.remote_addr + ":" + std::to_string(request.remote_port);
}

}  // namespace

bool same_secret(std::string_view a, std::string_view b) {
  std::size_t differ = a.size() ^ b.size();
  for (std::size_t i = 0; i < a.size() && !b.empty(); ++i)
    differ |= static_cast<std::size_t>(static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i % b.size()]));
  return differ == 0;
}

/// One request on its way: what it asked, what has come of it, and the generations that end with it.
class Service::Run {
 public:
  Run(Service& service, Ask some_ask, int socket)
      : ask(std::move(some_ask)),
        answer(
            ask, service.words_,
            (ask.form == Form::chat ? "chatcmpl-" : "cmpl-") + service.instance_ + std::to_string(service.next_id_++)),
        engine(service.engine_of(ask)),
        service_(service),
        socket_(socket) {
    start();
  }
  ~Run() {
    for (const RequestId id : ids_) engine.generator().cancel(id);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  /// What has come since, once something has. Throws Gone, Refusal.
  std::vector<Part> next() {
    constexpr auto often = std::chrono::milliseconds(200);
    for (;;) {
      const auto now = Clock::now();
      if (now >= until_)
        throw Refusal(503, "the request took more than " + std::to_string(service_.limits_.time.count()) + " s", "",
                      "timeout");
      std::vector<Part> parts = mailbox_->take();
      for (const Part& part : parts) {
        if (part.error) std::rethrow_exception(part.error);
        if (part.finish == Finish::cancelled) throw Refusal(503, "the request was cancelled");
      }
      if (!parts.empty()) return parts;
      // Only now: what was ready in time is told.
      if (service_.cancelling_) throw Refusal(503, "the server is shutting down", "", "shutting_down");
      if (mailbox_->wait(socket_, std::min(until_, now + often)) == Mailbox::Woken::gone) throw Gone{};
    }
  }

  const Ask ask;
  Answer answer;
  Engine& engine;

  std::string summary() const {
    return "policy " + engine.name() + ", prompt " + std::to_string(answer.prompt_tokens()) + ", generated " +
           std::to_string(answer.tokens()) + ", " +
           number_text(std::chrono::duration<double>(Clock::now() - began_).count(), 3) + " s";
  }

 private:
  void start() {
    const std::size_t answers = ask.answers();
    // Taken before it is looked at, so that two who come together do not both get the last place.
    if ((service_.pending_ += answers) > service_.limits_.requests) {
      service_.pending_ -= answers;
      throw Refusal(429, "there are " + std::to_string(service_.limits_.requests) + " requests already", "",
                    "too_many_requests");
    }
    std::size_t given = 0;
    try {
      for (; given < answers; ++given) ids_.push_back(submit(given));
    } catch (...) {
      service_.pending_ -= answers - given;
      for (const RequestId id : ids_) engine.generator().cancel(id);
      throw;
    }
  }

  RequestId submit(std::size_t index) {
    pith::Request request = ask.how;
    std::vector<Token> prompt = ask.prompts[index / ask.n];
    if (prompt.empty()) prompt = engine.generator().encode("");
    if (prompt.size() >= engine.context())
      throw Refusal(400,
                    "the prompt has " + std::to_string(prompt.size()) + " tokens; with an answer, " +
                        std::to_string(engine.context()) + " have room",
                    ask.form == Form::chat ? "messages" : "prompt", "context_length_exceeded");
    request.prompt = std::move(prompt);
    request.sampler.seed += index;
    if (ask.ignores_end) request.sampler.banned = engine.generator().ends();
    Service& service = service_;
    return engine.submit(std::move(request), index, ask.wants_drops, mailbox_, [&service] { --service.pending_; });
  }

  Service& service_;
  const int socket_;
  const Clock::time_point began_ = Clock::now(), until_ = began_ + service_.limits_.time;
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::vector<RequestId> ids_;
};

const std::vector<Service::Endpoint> Service::endpoints = {
    {"/", "GET", true, &Service::page},
    {"/health", "GET", true, &Service::health},
    {"/metrics", "GET", false, &Service::metrics},
    {"/v1/models", "GET", false, &Service::models},
    {"/v1/chat/completions", "POST", false, &Service::chat},
    {"/v1/completions", "POST", false, &Service::completion},
    {"/tokenize", "POST", false, &Service::tokenize},
};

Service::Service(Words words, std::vector<std::unique_ptr<Engine>> engines, std::vector<std::string> keys,
                 bool is_local, bool has_page, ServiceLimits limits, std::function<void(const std::string&)> log)
    : words_(std::move(words)),
      keys_(std::move(keys)),
      is_local_(is_local),
      has_page_(has_page),
      limits_(limits),
      log_(std::move(log)),
      instance_(random_word()),
      engines_(std::move(engines)) {}

void Service::add_to(HttpServer& server) {
  server_ = &server;
  server.set_default_headers({{"X-Content-Type-Options", "nosniff"}, {"Cache-Control", "no-store"}});
  server.set_pre_routing_handler([this](const Request& request, Response& response) {
    try {
      admit(request, response);
      return HttpServer::HandlerResponse::Unhandled;
    } catch (const Refusal& refusal) {
      ++refused_;
      refuse(response, refusal);
      if (request.method == "POST") response.set_header("Connection", "close");  // its body is not read
      log(request, refusal.status, refusal.what());
      return HttpServer::HandlerResponse::Handled;
    }
  });
  // What httplib says for itself has no body yet.
  server.set_error_handler(httplib::Server::Handler([this](const Request& request, Response& response) {
    if (!response.body.empty() || response.status == gone_status) return;
    const char* const why = response.status == 400   ? "not an HTTP request, or one that ended before its body did"
                            : response.status == 414 ? "the address is too long"
                                                     : "the request cannot be answered";
    ++refused_;
    response.set_content(refusal(response.status, why), "application/json");
    log(request, response.status, why);
  }));
  for (const Endpoint& endpoint : endpoints) {
    const auto answer = [this, &endpoint](const Request& request, Response& response) {
      guarded(endpoint, request, response);
    };
    if (std::string_view(endpoint.method) == "GET")
      server.Get(endpoint.path, answer);
    else
      server.Post(endpoint.path, answer);
  }
}

std::size_t Service::let_go() {
  std::size_t left = 0;
  for (const auto& engine : engines_) left += engine->let_go();
  return left;
}

std::string Service::refusal(int status, const std::string& why) { return text_of(Refusal(status, why).json()); }

void Service::log(const std::string& client, const std::string& what, int status, const std::string& more) const {
  log_(client + " " + printable(what) + " " + std::to_string(status) + (more.empty() ? "" : " " + printable(more)));
}

void Service::log(const Request& request, int status, const std::string& more) const {
  log(client_of(request), request.method + " " + request.path, status, more);
}

/// Whether the request may be looked at, before its body is. Throws Refusal.
void Service::admit(const Request& request, Response& response) const {
  const std::string host = request.get_header_value("Host");
  // A page of another site may send requests here, too, and by a name of its own read what comes back.
  if (is_local_ && !host.empty() && !names_this_machine(host_of(host)))
    throw Refusal(403, "Host: expected this machine, found " + in_quotes(host), "", "forbidden");
  if (const std::string origin = request.get_header_value("Origin");
      !origin.empty() && origin != "http://" + host && origin != "https://" + host)
    throw Refusal(403, "Origin: expected this server, found " + in_quotes(origin), "", "forbidden");
  const auto found = std::ranges::find_if(endpoints, [&](const Endpoint& one) { return request.path == one.path; });
  if (found == endpoints.end() || (found->path == std::string_view("/") && !has_page_))
    throw Refusal(404, "there is nothing at " + in_quotes(request.path), "", "not_found");
  const bool fits =
      request.method == found->method || (request.method == "HEAD" && found->method == std::string("GET"));
  if (!fits) {
    response.set_header("Allow", found->method);
    throw Refusal(405, request.path + " takes " + found->method + ", not " + request.method, "", "method_not_allowed");
  }
  if (!found->is_open && !keys_.empty()) {
    const std::string given = request.get_header_value("Authorization");
    constexpr std::string_view scheme = "Bearer ";
    bool known = false;
    for (const std::string& key : keys_)  // all of them, whichever it is
      known = same_secret(given, std::string(scheme) + key) || known;
    if (!known)
      throw Refusal(401,
                    given.empty() ? "Authorization: expected Bearer and a key, found none"
                                  : "Authorization: the key is not one of this server's",
                    "", "invalid_api_key");
  }
  if (request.method != "POST") return;
  const std::string type = request.get_header_value("Content-Type");
  if (!type.empty() && type.substr(0, type.find_first_of("; ")) != "application/json")
    throw Refusal(415, "Content-Type: expected application/json, found " + in_quotes(type), "",
                  "unsupported_media_type");
  if (draining_) throw Refusal(503, "the server is shutting down", "", "shutting_down");
}

void Service::guarded(const Endpoint& endpoint, const Request& request, Response& response) {
  try {
    (this->*endpoint.answer)(request, response);
  } catch (const Gone&) {
    response.status = gone_status;
    log(request, gone_status, "the client has gone");
  } catch (...) {
    const Refusal refusal = refusal_of(std::current_exception());
    ++refused_;
    refuse(response, refusal);
    log(request, refusal.status, refusal.what());
  }
}

Engine& Service::engine_of(const Ask& ask) const {
  std::string names;
  for (const auto& engine : engines_) {
    if (!ask.policy.empty() && engine->name() != ask.policy) {
      names += (names.empty() ? "" : ", ") + engine->name();
      continue;
    }
    if (ask.how.tau && !engine->has_gate())
      throw Refusal(400, "pith.tau: expected a policy with the learned gate, found " + engine->name(), "pith.tau");
    if (ask.wants_drops && !engine->tells_drops())
      throw Refusal(400, "pith.drops: this server does not tell them", "pith.drops");
    return *engine;
  }
  throw Refusal(400, "pith.policy: expected one of " + names + ", found " + in_quotes(ask.policy), "pith.policy",
                "policy_not_found");
}

void Service::complete(const Request& request, Response& response, Form form) {
  const int socket = socket_of(request);
  const auto run = std::make_shared<Run>(*this, read_ask(request.body, form, words_, limits_.ask), socket);
  if (!run->ask.streams) {
    while (!run->answer.ended())
      for (const Part& part : run->next()) run->answer.add(part);
    say(response, 200, run->answer.whole());
    log(request, 200, run->summary());
    return;
  }
  // What fails before there is a token has a status of its own.
  auto first = std::make_shared<std::vector<Part>>(run->next());
  const auto stream = [this, run, first, client = client_of(request), path = request.path](std::size_t,
                                                                                           httplib::DataSink& sink) {
    const auto send = [&](const std::string& data) {
      const std::string event = "data: " + data + "\n\n";
      if (!sink.write(event.data(), event.size())) throw Gone{};
    };
    int status = 200;
    std::string trouble;
    try {
      for (std::size_t i = 0; i < run->ask.answers(); ++i) send(text_of(run->answer.begin(i)));
      for (std::vector<Part> parts = std::move(*first);; parts = run->next()) {
        for (const Part& part : parts)
          if (const std::optional<Json> chunk = run->answer.add(part)) send(text_of(*chunk));
        if (run->answer.ended()) break;
      }
      if (run->ask.wants_usage) send(text_of(run->answer.usage_chunk()));
      send("[DONE]");
      sink.done();
    } catch (const Gone&) {
      status = gone_status;
      trouble = "the client has gone; ";
    } catch (...) {
      const Refusal refusal = refusal_of(std::current_exception());
      status = refusal.status;
      trouble = refusal.what() + std::string("; ");
      const std::string event = "data: " + text_of(refusal.json()) + "\n\n";
      if (sink.write(event.data(), event.size())) sink.done();
    }
    log(client, "POST " + path, status, trouble + run->summary());
    return status != gone_status;
  };
  response.status = 200;
  response.set_chunked_content_provider("text/event-stream", stream);
}

void Service::page(const Request& request, Response& response) {
  const std::string nonce = random_word();
  std::string html(page_html);
  constexpr std::string_view mark = "@NONCE@";
  for (std::size_t at = 0; (at = html.find(mark, at)) != std::string::npos;) html.replace(at, mark.size(), nonce);
  response.set_header(
      "Content-Security-Policy",
      "default-src 'none'; script-src 'nonce-" + nonce + "'; style-src 'nonce-" + nonce +
          "'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  response.set_header("Referrer-Policy", "no-referrer");
  response.set_content(html, "text/html; charset=utf-8");
  log(request, 200);
}

void Service::health(const Request& request, Response& response) {
  const int status = draining_ ? 503 : 200;
  say(response, status, {{"status", draining_ ? "shutting down" : "ok"}});
  log(request, status);
}

void Service::models(const Request& request, Response& response) {
  Json policies = Json::array();
  for (const auto& engine : engines_)
    policies.push_back({{"name", engine->name()},
                        {"spec", engine->policy()},
                        {"gate", engine->has_gate()},
                        {"drops", engine->tells_drops()}});
  const Json model = {{"id", words_.model},
                      {"object", "model"},
                      {"created", 0},
                      {"owned_by", "pith"},
                      {"pith",
                       {{"version", version},
                        {"context", engines_.front()->context()},
                        {"chat", words_.by.has_value()},
                        {"policies", std::move(policies)},
                        {"tau", {limits_.ask.least_tau, limits_.ask.most_tau}}}}};
  say(response, 200, {{"object", "list"}, {"data", {model}}});
  log(request, 200);
}

void Service::tokenize(const Request& request, Response& response) {
  const Json json = tokenized(request.body, words_);
  say(response, 200, json);
  log(request, 200, json["count"].dump() + " tokens");
}

namespace {

std::size_t rows_of(const CacheStats& stats) {
  return std::accumulate(stats.live_rows.begin(), stats.live_rows.end(), std::size_t{0});
}

}  // namespace

/// In Prometheus' text format.
void Service::metrics(const Request& request, Response& response) {
  std::ostringstream out;
  const auto head = [&](const char* name, const char* type, const char* help) {
    out << "# HELP pith_" << name << ' ' << help << "\n# TYPE pith_" << name << ' ' << type << '\n';
  };
  const auto family = [&](const char* name, const char* type, const char* help, auto&& of) {
    head(name, type, help);
    for (const auto& engine : engines_)
      out << "pith_" << name << "{policy=\"" << engine->name() << "\"} " << of(*engine) << '\n';
  };
  std::vector<Load> loads;
  for (const auto& engine : engines_) loads.push_back(engine->generator().load());
  const auto load = [&](const Engine& engine) -> const Load& {
    for (std::size_t i = 0; i < engines_.size(); ++i)
      if (engines_[i].get() == &engine) return loads[i];
    return loads.front();
  };
  const auto single = [&](const char* name, const char* type, const char* help, std::uint64_t value) {
    head(name, type, help);
    out << "pith_" << name << ' ' << value << '\n';
  };
  family("requests_total", "counter", "Generations that were begun.",
         [](Engine& e) { return e.counts().requests.load(); });
  family("requests_cancelled_total", "counter", "Generations whose clients went, or that took too long.",
         [](Engine& e) { return e.counts().cancelled.load(); });
  family("requests_failed_total", "counter", "Generations that ended in an error.",
         [](Engine& e) { return e.counts().failed.load(); });
  family("prompt_tokens_total", "counter", "Tokens of prompts.",
         [](Engine& e) { return e.counts().prompt_tokens.load(); });
  family("generated_tokens_total", "counter", "Tokens chosen.", [](Engine& e) { return e.counts().tokens.load(); });
  family("requests_running", "gauge", "Generations in the batch.", [&](Engine& e) { return load(e).running; });
  family("requests_waiting", "gauge", "Generations in the queue.", [&](Engine& e) { return load(e).waiting; });
  family("cache_rows", "gauge", "Rows that generations hold, over layers and lanes.",
         [&](Engine& e) { return rows_of(load(e).cache) - rows_of(load(e).kept); });
  family("cache_bytes", "gauge", "Bytes of pages that generations hold, but for those of the prefix cache.",
         [&](Engine& e) { return load(e).cache.bytes_used - load(e).kept.bytes_used; });
  family("cache_bytes_dense", "gauge", "What generations would hold had nothing been dropped, or shared.",
         [&](Engine& e) { return load(e).cache.bytes_dense - load(e).kept.bytes_dense; });
  family("cache_bytes_reserved", "gauge", "Bytes of pages held from the operating system.",
         [&](Engine& e) { return load(e).cache.bytes_reserved; });
  family("rows_seen_total", "counter", "Rows of generations that have ended, from their prompts' first tokens on.",
         [](Engine& e) { return e.counts().rows_seen.load(); });
  family("rows_dropped_total", "counter", "Rows of these that were dropped.",
         [](Engine& e) { return e.counts().rows_dropped.load(); });
  family("share_forgotten", "gauge", "Of all rows appended, the share that was dropped.", [&](Engine& e) {
    const CacheStats &now = load(e).cache, &kept = load(e).kept;
    const auto seen = static_cast<double>(e.counts().rows_seen + now.seen_rows - kept.seen_rows);
    const auto dropped = static_cast<double>(e.counts().rows_dropped + now.dropped_rows - kept.dropped_rows);
    return seen > 0 ? dropped / seen : 0.0;
  });
  family("prefix_cache_entries", "gauge", "Beginnings of prompts that are kept for others.",
         [&](Engine& e) { return load(e).prefixes.kept; });
  family("prefix_cache_rows", "gauge", "Their rows, over layers and lanes.",
         [&](Engine& e) { return rows_of(load(e).kept); });
  family("prefix_cache_bytes", "gauge", "Bytes of their pages, of which generations may share some.",
         [&](Engine& e) { return load(e).kept.bytes_used; });
  family("prefix_cache_hits_total", "counter", "Prompts that went on from a beginning that was kept.",
         [&](Engine& e) { return load(e).prefixes.hits; });
  family("prefix_cache_tokens_total", "counter", "Tokens of prompts that were not read again.",
         [&](Engine& e) { return load(e).prefixes.tokens_reused; });
  family("prefix_cache_evicted_total", "counter", "Beginnings that left for want of room.",
         [&](Engine& e) { return load(e).prefixes.dropped; });
  head("prefix_cache_misses_total", "counter", "Prompts that were read whole, by why.");
  for (const auto& engine : engines_) {
    const PrefixStats& stats = load(*engine).prefixes;
    for (const auto& [reason, count] :
         {std::pair("not_kept", stats.not_kept), std::pair("policy_looks_ahead", stats.policy_looks_ahead),
          std::pair("read_whole", stats.read_whole)})
      out << "pith_prefix_cache_misses_total{policy=\"" << engine->name() << "\",reason=\"" << reason << "\"} " << count
          << '\n';
  }
  single("requests_pending", "gauge", "Generations that have not ended, of all policies.", pending_);
  single("requests_refused_total", "counter", "Requests that were answered with an error.", refused_);
  single("connections", "gauge", "Open connections, this one among them.", server_->connections());
  response.status = 200;
  response.set_content(out.str(), "text/plain; version=0.0.4; charset=utf-8");
  log(request, 200);
}

}  // namespace pith::tool
