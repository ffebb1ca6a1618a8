// SPDX-License-Identifier: MIT
// Sequences in the making: feeds tokens through a model and keeps, for each sequence, what its policy lets it remember.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "pith/model.hpp"
#include "pith/prune/policy.hpp"
#include "pith/tokenizer.hpp"

namespace pith {

/// How the learned gate's keys are stored. It judges in f32 either way.
enum class GateKeys : std::uint8_t { f32, f16 };

enum class SequenceId : std::uint32_t {};

/// Logits after one token of one sequence, [vocab_size]; valid until the next call of step().
struct Output {
  SequenceId sequence;
  std::span<const float> logits;
};

/// Which tokens step() gives logits for.
enum class Logits {
  last,  // the last one pushed
  all,   // every one, one Output each, in order (evaluation)
};

/// How far the prompt of a sequence has come.
struct Progress {
  SequenceId sequence;
  std::size_t done = 0, total = 0;  // tokens
};

/// A forward pass that is done, as far as one sequence had a part in it.
struct PassInfo {
  SequenceId sequence;
  Position first = 0;                      // of `tokens`
  std::span<const Token> tokens;           // fed
  std::size_t kv_bytes = 0;                // pages the sequence holds now
  std::span<const std::size_t> live_rows;  // per layer, over lanes
};

/// The callbacks run between passes; they may throw, and may not call the session.
struct SessionOptions {
  std::optional<prune::AnyPolicy> policy = {};  // default: the learned gate if the model has one, else none
  KvFormat kv = KvFormat::f32;                  // how keys and values are stored
  std::optional<GateKeys> gate_keys = {};       // default: f32 in a cache of f32, else f16
  int threads = 0;                              // 0 = one per core
  int chunk = 256;                              // tokens of one sequence per forward pass
  int context = 0;                              // longest sequence, 0 = what the model was made for
  std::size_t kv_budget = 0;                    // bytes of key-value pages, 0 = unlimited
  Logits logits = Logits::last;
  bool record_drops = false;                                  // keep drop_at()
  std::function<void(const Progress&)> on_prefill = {};       // after each pass of a prompt
  std::function<void(SequenceId, const Drop&)> on_drop = {};  // after each pass, for what it dropped, by layer
  std::function<void(const PassInfo&)> on_pass = {};          // after each pass
};

/// Bytes and rows of a session's cache. A row is one token in one lane (a layer, or a kv-head of a layer).
struct CacheStats {
  std::size_t bytes_used = 0;          // pages that hold rows
  std::size_t bytes_reserved = 0;      // pages held from the operating system
  std::size_t bytes_high_water = 0;    // the most bytes_used has been
  std::size_t bytes_dense = 0;         // what bytes_used would be had nothing been dropped
  std::vector<std::size_t> live_rows;  // per layer, over lanes and sequences
  std::uint64_t seen_rows = 0;         // appended so far, over layers, lanes and live sequences
  std::uint64_t dropped_rows = 0;      // of these, dropped
  std::string policy;                  // that dropped them: prune::AnyPolicy::describe
};

/// Not thread-safe: one thread at a time drives a session. Sessions share a model freely.
class Session {
 public:
  /// Throws Error (argument, unsupported), e.g. for a gate policy on a model without gates, or one of layers or heads
  /// that the model lacks.
  explicit Session(Model model, SessionOptions options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Starts a sequence with its prompt (at least one token). Throws Error (argument): a token out of range, a prompt
  /// longer than the context.
  SequenceId add(std::span<const Token> prompt);

  /// Appends to a sequence. Throws Error (argument) as add().
  void push(SequenceId sequence, Token token);
  void push(SequenceId sequence, std::span<const Token> tokens);

  /// Feeds what is pending, all sequences together, at most `chunk` tokens of each per pass, until at least one
  /// sequence has its logits. Empty when idle.
  /// Throws Error (unsupported) when a key or value is too large for the cache's format, naming the layer: the sequence
  /// can only be finished;
  /// Throws Error (budget) before anything is changed when not one more token fits: finish a sequence and call again;
  /// Error (cancelled) when `stop` is asked to: between two layers, and the next call goes on from there.
  std::span<const Output> step(std::stop_token stop = {});

  bool idle() const;  // nothing is pending

  /// Forgets the sequence; its pages go back to the pool.
  void finish(SequenceId sequence);

  /// A new sequence with the same past (and the same pending tokens).
  SequenceId fork(SequenceId sequence);

  /// Counterfactuals. keep: these tokens stay from now on, in all layers, where they are still there, whatever the
  /// policy does; a sliding window that is the architecture's own still ends them. forget: these tokens leave one layer
  /// now, as if the next token had dropped them, kept ones too; tokens that are not there are passed over. Throws Error
  /// (argument) for a position or layer out of range.
  void keep(SequenceId sequence, std::span<const Position> positions);
  void forget(SequenceId sequence, std::size_t layer, std::span<const Position> positions);

  std::size_t length(SequenceId sequence) const;  // tokens fed so far
  CacheStats stats() const;                       // of the whole session
  CacheStats stats(SequenceId sequence) const;    // bytes_reserved and bytes_high_water are the session's

  /// With record_drops: [layer][lane][position] = the first position that did not see it, -1 = not dropped so far.
  std::vector<std::vector<std::vector<std::int32_t>>> drop_at(SequenceId sequence) const;

  /// Gives the memory of free pages back to the operating system; returns the bytes given back.
  std::size_t trim();

  const Model& model() const;
  const prune::AnyPolicy& policy() const;  // the one in use

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pith
