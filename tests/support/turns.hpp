// SPDX-License-Identifier: MIT
// A conversation through a session, as tests/reference/ simulates one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "reference/eviction.hpp"
#include "support/feed.hpp"

namespace pith::testing {

/// A conversation: prompts, and single tokens between them.
inline Fed feed_turns(const Model& model, std::span<const Token> tokens, const std::vector<reference::Prompt>& prompts,
                      SessionOptions options) {
  options.record_drops = true;
  options.threads = 1;
  Session session(model, std::move(options));
  Fed fed;
  std::optional<SequenceId> sequence;
  for (std::size_t t = 0, turn = 1; t < tokens.size(); t += turn) {
    const auto prompt = std::ranges::find(prompts, static_cast<int>(t), &reference::Prompt::begin);
    turn = prompt == prompts.end() ? 1 : static_cast<std::size_t>(prompt->end - prompt->begin);
    if (!sequence) {
      sequence = session.add(tokens.first(turn), Logits::all);
    } else if (prompt != prompts.end()) {
      session.prompt(*sequence, tokens.subspan(t, turn), Logits::all);
    } else {
      session.push(*sequence, tokens[t]);
    }
    step_into(session, *sequence, fed.logits);
  }
  fed.drop_at = session.drop_at(*sequence);
  fed.stats = session.stats(*sequence);
  return fed;
}

}  // namespace pith::testing
