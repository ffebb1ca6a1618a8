// SPDX-License-Identifier: MIT
// What a request was told, and the same request alone.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pith/generator.hpp"

namespace pith::testing {

struct Heard {
  std::vector<Token> tokens;
  std::vector<float> logprobs;
  std::optional<Finish> finish;
  std::exception_ptr error;
  int after_the_end = 0;  // pieces

  void operator()(const Piece& piece) {
    if (finish) ++after_the_end;
    if (piece.token) tokens.push_back(*piece.token);
    if (piece.logprob) logprobs.push_back(*piece.logprob);
    finish = piece.finish;
    error = piece.error;
  }

  /// Of what was told alone this is the same, bit for bit; or its beginning, where it was cancelled.
  bool is_as(const Heard& alone) const {
    const bool whole = finish != Finish::cancelled;
    if (whole && finish != alone.finish) return false;
    if (whole ? tokens.size() != alone.tokens.size() : tokens.size() > alone.tokens.size()) return false;
    return logprobs.size() <= alone.logprobs.size() && std::equal(tokens.begin(), tokens.end(), alone.tokens.begin()) &&
           (logprobs.empty() ||
            std::memcmp(logprobs.data(), alone.logprobs.data(), logprobs.size() * sizeof(float)) == 0);
  }
};

/// A request to be asked more than once; whoever listens may come later than the listener goes.
struct Asked {
  Request request;  // without a callback
  std::shared_ptr<Heard> heard = std::make_shared<Heard>();
  RequestId id{};

  Request listened() const {
    Request out = request;
    out.logprobs = 0;
    out.on_piece = [to = heard](const Piece& piece) { (*to)(piece); };
    return out;
  }
};

/// The same requests one after another, in a generator of their own that guesses nothing: true where each was told the
/// same as far as all before it were. `options`: without a byte budget.
inline bool as_alone(const Model& model, const SessionOptions& options, std::span<const Asked> all) {
  Generator generator(model, std::nullopt, options, 1);
  const ConversationId conversation = generator.open();
  for (const Asked& one : all) {
    Asked again{one.request};
    again.request.draft = {};
    again.request.conversation = conversation;
    generator.submit(again.listened());
    generator.run();
    if (one.heard->finish == Finish::error) return true;
    if (!one.heard->is_as(*again.heard)) return false;
    if (one.heard->finish == Finish::cancelled) return true;
  }
  return true;
}

}  // namespace pith::testing
