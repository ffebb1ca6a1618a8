// SPDX-License-Identifier: MIT
#include "drafting.hpp"

#include <algorithm>
#include <string>

#include "pith/error.hpp"

namespace pith {

void check(const DraftOptions& options, const Config& config) {
  if (options.tokens > DraftOptions::most)
    fail(ErrorCode::argument, "draft: tokens", "at most " + std::to_string(DraftOptions::most),
         std::to_string(options.tokens));
  if (const auto n = static_cast<std::size_t>(config.n_layers()); options.layers >= n)
    fail(ErrorCode::argument, "draft: layers", "fewer than the model's " + std::to_string(n),
         std::to_string(options.layers));
}

Draft Drafter::begin(Token token, std::size_t most) const {
  const std::size_t guesses = std::min(limit_, most);
  if (guesses == 0) return {};
  if (options_.layers > 0) return {.tokens = {token}, .most = guesses, .layers = options_.layers, .guessing = true};
  Draft draft{.tokens = text_.continuation(guesses), .most = guesses};
  if (!draft.tokens.empty()) draft.tokens.insert(draft.tokens.begin(), token);
  return draft;
}

void Drafter::learn(const Draft& draft) {
  const std::size_t guesses = draft.tokens.size() - 1;
  count_.drafted += guesses;
  count_.accepted += draft.right;
  limit_ = draft.right == guesses ? std::min(options_.tokens, 2 * limit_) : std::max<std::size_t>(draft.right, 1);
}

}  // namespace pith
