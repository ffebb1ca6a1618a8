// SPDX-License-Identifier: MIT
// What a policy promises, whatever the model and the cache: its budget, whom it spares, that rows are counted, and that
// nothing is left behind.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include "pith/session.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {

/// Each layer holds what its heads may keep: so many rows and `more` where the policy works, all tokens elsewhere.
inline void expect_within_budget(const PolicyCase& promise, const Session& session, SequenceId sequence,
                                 std::size_t lanes, std::size_t more) {
  if (!promise.rows) return;
  const std::size_t tokens = session.length(sequence);
  const CacheStats stats = session.stats(sequence);
  for (std::size_t layer = 0; layer < stats.live_rows.size(); ++layer) {
    std::size_t most = 0;
    for (std::size_t lane = 0; lane < lanes; ++lane)
      most += promise.works_on(layer, lane) ? std::min(*promise.rows + more, tokens) : tokens;
    EXPECT_LE(stats.live_rows[layer], most) << "layer " << layer;
  }
}

/// But for layers with a sliding window of their own, in which rows die anyway.
inline void expect_spared(const PolicyCase& promise, const Config& config, const DropAt& drop_at) {
  for (std::size_t layer = 0; layer < drop_at.size(); ++layer) {
    if (config.layers[layer].window > 0) continue;
    for (std::size_t lane = 0; lane < drop_at[layer].size(); ++lane)
      for (std::size_t j = 0; j < drop_at[layer][lane].size(); ++j) {
        const int at = drop_at[layer][lane][j];
        if (at < 0) continue;
        EXPECT_TRUE(promise.works_on(layer, lane)) << "layer " << layer << ", lane " << lane;
        EXPECT_GE(j, static_cast<std::size_t>(promise.spared_sinks)) << "dropped at " << at;
        EXPECT_GT(at, static_cast<int>(j) + promise.spared_recent) << "token " << j;
      }
  }
}

/// Runs a prompt and what follows it, and finishes the sequence; of `options` the policy is the promise's.
inline void expect_promises(const Model& model, const PolicyCase& promise, SessionOptions options, std::size_t prompt,
                            std::size_t rest, std::uint64_t seed = 7) {
  options.policy = promise.policy;
  options.threads = 1;
  options.record_drops = true;
  Session session(model, std::move(options));
  const auto tokens = random_tokens(seed, model.config(), prompt + rest);
  const SequenceId sequence = session.add(std::span(tokens).first(prompt));
  session.step();
  const auto drops = session.drop_at(sequence);
  const std::size_t lanes = drops[0].size();
  expect_within_budget(promise, session, sequence, lanes, 0);

  std::size_t pushed = 0;
  for (const Token token : std::span(tokens).last(rest)) {
    session.push(sequence, token);
    const auto outputs = session.step();
    ASSERT_EQ(outputs.size(), 1u);
    for (const float logit : outputs[0].logits) ASSERT_TRUE(std::isfinite(logit));
    expect_within_budget(promise, session, sequence, lanes, promise.prompts_only ? ++pushed : 0);
  }
  expect_spared(promise, model.config(), session.drop_at(sequence));

  const CacheStats stats = session.stats(sequence);
  EXPECT_EQ(rows_there(model.config(), stats) + stats.dropped_rows, stats.seen_rows);
  bool works = false;
  for (std::size_t layer = 0; layer < drops.size(); ++layer)
    for (std::size_t lane = 0; lane < lanes; ++lane) works = works || promise.works_on(layer, lane);
  if (promise.rows && works) {
    EXPECT_GT(stats.dropped_rows, 0u);
  }
  session.finish(sequence);
  EXPECT_EQ(session.stats().bytes_used, 0u);
}

}  // namespace pith::testing
