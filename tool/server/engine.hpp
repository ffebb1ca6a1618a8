// SPDX-License-Identifier: MIT
// A policy that requests may name: its generator, the thread that steps it, and what is counted of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

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
         PrefixOptions prefixes, bool tells_drops, std::function<void(const std::string&)> trouble);

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

  /// Once no request comes any more: waits until those that are there have ended, and lets go of what is kept for
  /// others. Returns the bytes of pages that somebody holds all the same.
  std::size_t let_go();

 private:
  struct Sent;
  void work(const std::stop_token& stop);
  Part part_of(const Piece& piece, Sent& sent);
  void tell_drops(const Piece& piece, Sent& sent, Part& part) const;

  const std::string name_;
  const bool tells_drops_;
  const std::function<void(const std::string&)> trouble_;
  Counts counts_;
  std::unique_ptr<Generator> generator_;
  std::string policy_;
  bool has_gate_ = false;
  std::size_t context_ = 0;
  std::jthread thread_;
};

}  // namespace pith::tool
