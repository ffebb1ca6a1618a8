// SPDX-License-Identifier: MIT
// Runs one sequence through a session of its own and collects what came of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pith/session.hpp"

namespace pith::testing {

using Logits2d = std::vector<std::vector<float>>;                    // [token][vocab_size]
using DropAt = std::vector<std::vector<std::vector<std::int32_t>>>;  // [layer][lane][token]

struct Fed {
  Logits2d logits;
  DropAt drop_at;
  CacheStats stats;  // at the end, the sequence not finished
};

/// A prompt in pieces of at most `chunk` tokens, or tokens pushed one by one.
struct Feeding {
  static constexpr int decode = 0;
  int chunk = 256;

  std::string name() const { return chunk == decode ? "token by token" : "chunks of " + std::to_string(chunk); }
};

/// Rows that are there; those of lanes that layers share are the first one's.
inline std::uint64_t rows_there(const Config& config, const CacheStats& stats) {
  std::uint64_t rows = 0;
  for (std::size_t layer = 0; layer < config.layers.size(); ++layer)
    if (config.layers[layer].kv_from < 0) rows += stats.live_rows[layer];
  return rows;
}

inline std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

inline void step_into(Session& session, SequenceId sequence, Logits2d& logits) {
  while (!session.idle())
    for (const Output& output : session.step())
      if (output.sequence == sequence) logits.push_back(copy(output.logits));
}

/// The logits of every token, whatever options.chunk says.
inline Fed feed(const Model& model, std::span<const Token> tokens, Feeding feeding, SessionOptions options = {}) {
  options.record_drops = true;
  if (!options.threads) options.threads = 1;
  if (feeding.chunk != Feeding::decode) options.chunk = feeding.chunk;
  Session session(model, std::move(options));
  Fed fed;
  const std::size_t prompt = feeding.chunk == Feeding::decode ? 1 : tokens.size();
  const SequenceId sequence = session.add(tokens.first(prompt), Logits::all);
  step_into(session, sequence, fed.logits);
  for (const Token token : tokens.subspan(prompt)) {
    session.push(sequence, token);
    step_into(session, sequence, fed.logits);
  }
  fed.drop_at = session.drop_at(sequence);
  fed.stats = session.stats(sequence);
  return fed;
}

}  // namespace pith::testing
