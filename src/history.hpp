// SPDX-License-Identifier: MIT
// What a generator has given a sequence, or will: enough to feed it again, or to save it.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "drafting.hpp"
#include "files/bytes.hpp"
#include "pith/generator.hpp"
#include "prefixes.hpp"

namespace pith {

/// What one request gives to a sequence.
struct Exchange {
  std::vector<Token> prompt;
  std::vector<Token> tokens = {};  // chosen
  std::size_t prefix = 0;          // of the prompt: a prompt of its own; 0: none
  std::size_t pinned = 0;          // of the prompt
  Anchors anchors = {};            // of the prompt
  std::optional<float> tau = {};

  std::size_t length() const { return prompt.size() + tokens.size(); }
  Beginning beginning(Logits of_prompt) const {
    return {.prompt = prompt,
            .prefix = prefix,
            .pinned = pinned,
            .tau = tau,
            .whole = of_prompt == Logits::all || anchors.end > 0};
  }
};

/// Exchanges that follow each other in one sequence, and how far it has come: it can be lost, and be fed again.
struct History {
  std::vector<Exchange> past = {};  // of requests that have ended
  std::size_t length = 0;           // of these, in tokens

  std::optional<SequenceId> sequence = {};
  std::size_t given = 0;   // tokens that the sequence was given,
  std::size_t next = 0;    // the exchange that comes next,
  std::size_t calls = 0;   // and what was given of it: its prompt, then token by token
  Draft draft = {};        // behind its latest token
  std::size_t reused = 0;  // tokens that were read for another

  std::optional<RequestId> last = {};  // a conversation's latest request

  /// For a saved conversation. read() throws Error (format).
  void write(ByteWriter& out) const;
  static History read(ByteReader& in, std::size_t context);
};

}  // namespace pith
