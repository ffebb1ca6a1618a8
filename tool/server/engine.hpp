// SPDX-License-Identifier: MIT
// A policy that requests may name: its generator, the thread that steps it, and what is counted of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pith/generator.hpp"
#include "server/mailbox.hpp"

namespace pith::tool {

/// Since the start.
struct Counts {
  std::atomic<std::uint64_t> requests = 0, prompt_tokens = 0, tokens = 0;
  std::atomic<std::uint64_t> cancelled = 0, failed = 0;        // requests
  std::atomic<std::uint64_t> rows_seen = 0, rows_dropped = 0;  // of requests that have ended
};

class Engine {
 public:
  /// `tells_drops`: a request may ask which tokens its sequence drops. `trouble` hears what is nobody's fault.
  Engine(std::string name, Model model, Tokenizer tokenizer, SessionOptions options, std::size_t at_once,
         bool tells_drops, std::function<void(const std::string&)> trouble);

  const std::string& name() const { return name_; }
  const std::string& policy() const { return policy_; }
  bool has_gate() const { return has_gate_; }
  bool tells_drops() const { return tells_drops_; }
  std::size_t context() const { return context_; }
  Generator& generator() { return *generator_; }
  const Counts& counts() const { return counts_; }

  /// The parts of the answer go to the mailbox, the last of them with Part::finish, after which `ended` is called.
  /// Throws as Generator::submit.
  RequestId submit(Request request, std::size_t choice, bool asks_drops, std::shared_ptr<Mailbox> mailbox,
                   std::function<void()> ended);

 private:
  struct Sent;
  void work(const std::stop_token& stop);
  Part part_of(const Piece& piece, Sent& sent);

  const std::string name_;
  const bool tells_drops_;
  const std::function<void(const std::string&)> trouble_;
  Counts counts_;
  std::atomic<std::size_t> askers_ = 0;                // requests on their way that asked for drops
  std::map<SequenceId, std::vector<Position>> drops_;  // a position for each row; of the thread that steps
  std::unique_ptr<Generator> generator_;
  std::string policy_;
  bool has_gate_ = false;
  std::size_t context_ = 0;
  std::jthread thread_;
};

}  // namespace pith::tool
