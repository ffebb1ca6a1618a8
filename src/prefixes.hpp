// SPDX-License-Identifier: MIT
// Beginnings of prompts that were read: sequences of a session that others are forked from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pith/generator.hpp"
#include "pith/prune/spec.hpp"
#include "pith/session.hpp"

namespace pith {

/// A prompt, and what else its rows depend on.
struct Beginning {
  std::span<const Token> prompt;
  std::size_t prefix = 0;  // of the prompt: a prompt of its own; 0: none
  std::size_t pinned = 0;
  std::optional<float> tau = {};
  bool whole = false;  // all of the prompt is to be read: logits of it are wanted, or anchors are left of it
};

/// What is read is what would be read without, bit for bit: a sequence is kept at the end of a pass that every prompt
/// with the same beginning has. That is the end of a prefix, or, where what the policy forgets depends on the tokens so
/// far alone, as many whole chunks as prompts have in common.
class Prefixes {
 public:
  Prefixes(Session& session, const SessionOptions& options, PrefixOptions own)
      : session_(session),
        most_(own.bytes),
        chunk_(static_cast<std::size_t>(options.chunk)),
        within_budget_(options.kv_budget > 0),
        looks_back_alone_(prune::looks_back_alone(session.policy())) {}

  /// How many of the first tokens two prompts could share; 0: none.
  std::size_t shared(const Beginning& a, const Beginning& b) const;

  /// How many a prompt could leave to those that come after it.
  std::size_t own(const Beginning& one) const;

  /// A sequence that has read as much of the prompt as one that is kept; counts. None: it is for the caller to begin.
  std::optional<SequenceId> fork(const Beginning& one);

  /// As many tokens as the longest that is kept for the prompt.
  std::size_t kept(const Beginning& one) const;

  /// How many tokens of the prompt are worth keeping for what was read before and is not kept there.
  std::size_t common_with_kept(const Beginning& one) const;

  /// The sequence has read so many of the prompt's tokens, and they are kept.
  void keep(const Beginning& one, std::size_t length, SequenceId sequence);

  /// The one that was unused for longest goes, for want of room. False: there is none.
  bool drop();

  /// All go.
  void clear();

  bool on() const { return most_ > 0; }
  PrefixStats stats() const;
  const CacheStats& held() const { return held_; }

 private:
  struct Entry {
    std::vector<Token> tokens;
    bool of_prefix;  // it ends a prefix: else it is whole chunks
    std::size_t pinned;
    std::optional<float> tau;
    SequenceId sequence;
    std::uint64_t used;  // when
  };

  const Entry* find(const Beginning& one) const;
  bool alike(const Entry& entry, const Beginning& one) const;
  bool by_chunks(const Beginning& one) const;
  std::size_t chunks_in(std::size_t tokens, std::size_t prompt) const;
  void take_stock();

  Session& session_;
  const std::size_t most_;  // bytes
  const std::size_t chunk_;
  const bool within_budget_, looks_back_alone_;  // the session; its policy
  std::vector<Entry> entries_ = {};
  std::uint64_t clock_ = 0;
  PrefixStats counts_ = {};
  CacheStats held_ = {};  // by the entries, which nothing is fed: it changes as they come and go
};

}  // namespace pith
