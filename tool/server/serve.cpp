// SPDX-License-Identifier: MIT
// pith serve: the OpenAI API over HTTP.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "chat_form.hpp"
#include "command.hpp"
#include "interrupt.hpp"
#include "options.hpp"
#include "pith/tensor/parallel.hpp"
#include "server/engine.hpp"
#include "server/http.hpp"
#include "server/service.hpp"

namespace pith::tool {
namespace {

/// A pass is what tokens on their way wait for, and what prompts begin with is kept by the chunk: small ones. Where
/// nobody waits, so many tokens are read at once.
constexpr int served_chunk = 64, served_ahead = 256;

struct ServeOptions {
  ModelOptions model;
  CacheOptions cache{.chunk = served_chunk};
  std::vector<std::string> policies;
  std::string host = "127.0.0.1", key_file, alias, form;
  int port = 8080;
  std::size_t at_once = 16;
  std::optional<double> kv_budget;  // MiB
  double prefix_cache = 256;        // MiB
  std::optional<std::size_t> most_tokens;
  std::vector<float> tau;  // least and most that a request may ask for
  HttpLimits http;
  double most_body = 4;  // MiB
  std::size_t requests = 128;
  int seconds = 600, read_seconds = 30, grace = 10;
  bool no_page = false;
};

struct NamedPolicy {
  std::string name, spec;  // empty: what the model asks for
};

/// "NAME=SPEC", or a SPEC alone: no name of a method has a '=' behind it.
NamedPolicy named(const std::string& text) {
  constexpr std::string_view of_names = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
  const std::size_t past = text.find_first_not_of(of_names);
  if (past == std::string::npos || past == 0 || text[past] != '=') return {"default", text};
  return {text.substr(0, past), text.substr(past + 1)};
}

std::vector<NamedPolicy> policies_of(const ServeOptions& options) {
  std::vector<NamedPolicy> all;
  for (const std::string& text : options.policies) {
    all.push_back(named(text));
    if (std::ranges::count(all, all.back().name, &NamedPolicy::name) > 1)
      fail(ErrorCode::argument, "--policy", "a name of its own (--policy NAME=SPEC)",
           "\"" + all.back().name + "\" twice");
  }
  if (all.empty()) all.push_back({"default", ""});
  return all;
}

std::vector<std::string> keys_of(const std::string& path) {
  if (path.empty()) return {};
  std::vector<std::string> keys;
  for (std::string line : lines_of(read_file(path))) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) keys.push_back(std::move(line));
  }
  if (keys.empty()) fail(ErrorCode::format, path, "an API key a line", "none");
  return keys;
}

std::string model_name(const ServeOptions& options) {
  if (!options.alias.empty()) return options.alias;
  std::filesystem::path path = std::filesystem::path(options.model.path).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "models/name/"
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

Words words_of(const ServeOptions& options, const Tool& tool) {
  Words words{model_name(options), load_tokenizer(options.model, tool)};
  if (options.form.empty() && !ChatTemplate::find(options.model.path)) {
    tool.warn("the model has no chat template: /v1/chat/completions is refused (--template FILE gives it one)");
    return words;
  }
  words.by = template_of(options.form, options.model, words.tokenizer, tool, words.options);
  return words;
}

AskLimits ask_limits(const ServeOptions& options, std::size_t context) {
  AskLimits limits;
  limits.tokens = std::min(options.most_tokens.value_or(context), context);
  limits.answers = std::min(limits.answers, options.requests);
  limits.least_tau = options.cache.tau.value_or(0);
  limits.most_tau = limits.least_tau + 10;
  if (options.tau.empty()) return limits;
  if (options.tau.size() != 2 || options.tau[0] > options.tau[1])
    fail(ErrorCode::argument, "--request-tau", "two numbers, the smaller one first",
         std::to_string(options.tau.size()) + " numbers, or the larger one first");
  limits.least_tau = options.tau[0];
  limits.most_tau = options.tau[1];
  return limits;
}

/// Ends what is asked to: first by itself, then with a word to who still waits.
void wind_up(Service& service, HttpServer& http, int grace, const Tool& tool) {
  service.drain();
  if (service.pending() > 0)
    tool.note("ending: " + std::to_string(service.pending()) + " requests have " + std::to_string(grace) + " s left");
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(grace);
  http.close();
  while (service.pending() > 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  service.cancel_all();
}

Exit serve(const ServeOptions& options, const Tool& tool) {
  const std::vector<NamedPolicy> policies = policies_of(options);
  const std::vector<std::string> keys = keys_of(options.key_file);
  const Model model = load(options.model);
  Words words = words_of(options, tool);

  std::mutex mutex;
  const auto log = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    tool.note(line);
  };
  const Threads threads(options.cache.threads);  // whose turn it is has them all
  const PrefixOptions prefixes{.bytes = static_cast<std::size_t>(options.prefix_cache * 1024 * 1024)};
  std::vector<std::unique_ptr<Engine>> engines;
  for (const NamedPolicy& policy : policies) {
    CacheOptions cache = options.cache;
    cache.policy = policy.spec;
    SessionOptions session = session_options(cache, model, tool);
    session.threads = threads;
    session.ahead = served_ahead;
    if (options.kv_budget) session.kv_budget = static_cast<std::size_t>(*options.kv_budget * 1024 * 1024);
    engines.push_back(std::make_unique<Engine>(policy.name, model, words.tokenizer, std::move(session), options.at_once,
                                               prefixes, !options.no_page, log));
    tool.detail("policy " + policy.name + ": " + engines.back()->policy());
  }

  const bool is_local = options.host == "localhost" || options.host == "::1" || options.host.starts_with("127.");
  const ServiceLimits limits{.ask = ask_limits(options, engines.front()->context()),
                             .requests = options.requests,
                             .time = std::chrono::seconds(options.seconds)};
  Service service(std::move(words), std::move(engines), keys, is_local, !options.no_page, limits, log);
  HttpLimits http_limits = options.http;
  http_limits.body = static_cast<std::size_t>(options.most_body * 1024 * 1024);
  http_limits.read = std::chrono::seconds(options.read_seconds);
  HttpServer http(http_limits, Service::refusal, [&](const std::string& client, int status, const std::string& why) {
    service.log(client, "-", status, why);
  });
  service.add_to(http);
  const int port = http.bind(options.host, options.port);
  if (!is_local && keys.empty()) tool.warn("--host: anyone who reaches " + options.host + " may ask (--api-key-file)");
  const std::string authority = options.host.find(':') == std::string::npos ? options.host : "[" + options.host + "]";

  const Interrupt interrupt;
  std::mutex serving;
  std::condition_variable_any changed;
  bool served = false;  // by itself, as nobody else ends it
  std::jthread server([&] {
    http.serve();
    const std::lock_guard lock(serving);
    served = true;
    changed.notify_all();
  });
  tool.note("listening on http://" + authority + ":" + std::to_string(port));
  {
    std::unique_lock lock(serving);
    changed.wait(lock, interrupt.token(), [&] { return served; });
  }
  if (interrupt.requested()) wind_up(service, http, options.grace, tool);
  server.join();
  if (!interrupt.requested()) fail(ErrorCode::state, "the server's socket failed");
  if (const std::size_t left = service.let_go(); left > 0)
    tool.warn(std::to_string(left) + " bytes of keys and values are held by nobody");
  else
    tool.note("ended: every page is free");
  return Exit::interrupted;
}

}  // namespace

void add_serve(CLI::App& app, Tool& tool) {
  auto [command, options] =
      add_command<ServeOptions>(app, tool, "serve", "Answer requests over HTTP, as the OpenAI API has them", serve);
  add_model_path(command, options.model);
  add_gates(command, options.model);
  add_tokenizer(command, options.model);
  command.add_option("--host", options.host, "Address to listen on [127.0.0.1]")->type_name("ADDRESS");
  command.number("--port", options.port, {0, 65535}, "Port to listen on; 0 = a free one [8080]");
  command.reads("--api-key-file", options.key_file, "Keys that clients must show, one a line [none]");
  command.add_option("--alias", options.alias, "What clients call the model [the file's name]")->type_name("NAME");
  add_template(command, options.form);
  command
      .add_option("--policy", options.policies,
                  "What is forgotten; several, as NAME=SPEC, let each request choose one by its name, and the first "
                  "is for who does not [gate if the model has gates, else none]")
      ->allow_extra_args(false)
      ->type_name("[NAME=]SPEC");
  add_cache(command, options.cache);
  command.numbers("--request-tau", options.tau, Range<float>{-100, 100},
                  "Least and most tau that a request may ask for [--tau, and 10 more]");
  command.number("--parallel", options.at_once, {1, 1024}, "Requests in the batch of a policy [16]");
  command.number("--max-requests", options.requests, {1, 100000},
                 "Requests that run or wait; one more is refused with 429 [128]");
  command.number("--max-connections", options.http.connections, {1, 400}, "Connections at a time [256]");
  command.number("--max-tokens", options.most_tokens, at_least(std::size_t{1}),
                 "Most tokens that one request may have generated [the context]");
  command.number("--max-body", options.most_body, Range<double>{0, 1024, true}, "Most MiB of a request's body [4]")
      .type_name("MIB");
  command
      .number("--kv-budget", options.kv_budget, Range<double>{.least = 0, .above = true},
              "Most MiB of keys and values, for each policy; requests wait for room [no limit]")
      .type_name("MIB");
  command
      .number("--prefix-cache", options.prefix_cache, Range<double>{.least = 0},
              "Most MiB of what prompts begin with that are kept for others, for each policy, within --kv-budget; 0 = "
              "none [256]")
      .type_name("MIB");
  command.number("--timeout", options.seconds, {1, 86400}, "Seconds that one request may take [600]");
  command.number("--read-timeout", options.read_seconds, {1, 3600}, "Seconds for a request to arrive [30]");
  command.number("--grace", options.grace, {0, 3600}, "Seconds that requests have left when the server is to end [10]");
  command.add_flag("--no-page", options.no_page, "No page at /, and no request may ask which tokens are dropped");
}

}  // namespace pith::tool
