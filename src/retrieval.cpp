// SPDX-License-Identifier: MIT
#include "pith/retrieval.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "pith/error.hpp"

namespace pith {

NeedleAnswer answer(const Model& model, const NeedleTrial& trial, std::size_t tokens, std::span<const Token> ends,
                    SessionOptions options, const std::stop_token& stop) {
  const auto& [prompt, begin, end] = trial;
  if (begin >= end || end > prompt.size())
    fail(ErrorCode::argument, "needle", "some of the prompt's " + std::to_string(prompt.size()) + " tokens",
         "[" + std::to_string(begin) + ", " + std::to_string(end) + ")");
  require(tokens > 0, ErrorCode::argument, "tokens: expected at least one for the answer, found 0");

  const auto layers = static_cast<std::size_t>(model.config().n_layers()),
             heads = static_cast<std::size_t>(model.config().n_heads);
  std::vector<Position> focus;  // of the latest pass
  options.record_focus = true;
  options.on_pass = [&](const PassInfo& pass) { focus.assign(pass.focus.begin(), pass.focus.end()); };
  Session session(model, std::move(options));
  const SequenceId sequence = session.add(prompt);
  NeedleAnswer out{{}, std::vector(layers, std::vector<float>(heads))};
  while (out.tokens.size() < tokens) {
    const std::span<const float> logits = session.step(stop)[0].logits;
    const auto token = static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
    if (std::ranges::find(ends, token) != ends.end()) break;
    out.tokens.push_back(token);
    for (std::size_t i = 0; i < layers * heads; ++i) {
      const auto at = static_cast<std::size_t>(focus[i]);
      if (at >= begin && at < end && prompt[at] == token)
        out.found[i / heads][i % heads] += 1 / static_cast<float>(end - begin);
    }
    if (session.length(sequence) == session.context()) break;
    if (out.tokens.size() < tokens) session.push(sequence, token);
  }
  return out;
}

prune::HeadScores mean_by_kv_head(const Config& config, std::span<const NeedleAnswer> answers) {
  const auto layers = static_cast<std::size_t>(config.n_layers()), heads = static_cast<std::size_t>(config.n_heads),
             kv_heads = static_cast<std::size_t>(config.n_kv_heads);
  prune::HeadScores best{{}, std::vector(layers, std::vector<float>(kv_heads))};
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (config.layers[layer].window > 0) {
      best.scores[layer].assign(kv_heads, -std::numeric_limits<float>::infinity());
      continue;
    }
    for (std::size_t head = 0; head < heads; ++head) {
      float sum = 0;
      for (const NeedleAnswer& one : answers) sum += one.found[layer][head];
      float& score = best.scores[layer][head / (heads / kv_heads)];
      score = std::max(score, answers.empty() ? 0 : sum / static_cast<float>(answers.size()));
    }
  }
  return best;
}

}  // namespace pith
