// SPDX-License-Identifier: MIT
// Given texts through the code that generates: what is predicted of each token while the context is being forgotten.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "command.hpp"
#include "kept.hpp"
#include "options.hpp"
#include "pith/session.hpp"

namespace pith::tool {

/// How many tokens of a text are its prompt, fed in passes of a chunk; the others come one by one, as in decoding.
struct FeedOptions {
  std::optional<int> prompt;          // none = all
  std::optional<float> kvzip;         // share of the prompt's rows that stays once it is read
  Logits logits = Logits::all;        // of the prompt
  std::optional<Replay> replay = {};  // what --kvzip comes to

  std::size_t prompt_of(std::size_t tokens) const;
};
void add_options(CommandLine& line, FeedOptions& options);

/// What --kvzip asks of a session's policy and of how texts are fed.
void take_kvzip(FeedOptions& options, const ModelOptions& model, const Tokenizer& tokenizer, SessionOptions& session);

/// Feeds a new sequence. output(next, logits): what is predicted of tokens[next], or past the last of them.
template <class F>
SequenceId feed(Session& session, std::span<const Token> tokens, const FeedOptions& options, std::stop_token stop,
                F&& output) {
  const std::size_t prompt = options.prompt_of(tokens.size());
  const SequenceId sequence = session.add(tokens.first(prompt), options.logits);
  std::size_t next = options.logits == Logits::all ? 1 : prompt;
  while (!session.idle()) {
    for (const Output& one : session.step(stop)) output(next++, one.logits);
    const std::size_t fed = session.length(sequence);
    if (session.idle() && options.replay && fed == prompt)
      session.compress(sequence, tokens.first(prompt), *options.replay);
    if (session.idle() && fed < tokens.size()) session.push(sequence, tokens[fed]);
  }
  return sequence;
}

/// What the figures of texts fed so do not show of their policy, in words. `longest`: of the texts, in tokens;
/// `remedy`: what would show it.
std::vector<std::string> unmeasured(const Kept& kept, const FeedOptions& options, const CacheOptions& cache,
                                    const prune::Needs& needs, std::size_t longest,
                                    const std::string& remedy = "with --prompt-tokens N, tokens follow");

}  // namespace pith::tool
