// SPDX-License-Identifier: MIT
// A context that the model has written again keeps the rows to which it then attended most.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "pith/prune/methods.hpp"
#include "reference/decoder.hpp"
#include "support/compare.hpp"
#include "support/decided_models.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr int length = 50, chunk = 20, sinks = 4;
const std::vector<Token> all = {7, 8, 9}, part = {11, 12}, answer = {13};
constexpr int overlap = 3;

Replay replay(float share) { return {share, sinks, chunk, all, part, overlap, answer}; }

/// Attention of the replay of one part, its softmax taken over the sinks, the part and the replay alone.
class Replayed : public reference::Visibility {
 public:
  Replayed(const Config& config, int begin, int end) : config_(config), begin_(begin), end_(end) {}

  bool sees(int, int, int, int) const override { return true; }
  void attended(int layer, int n, const reference::Rows& weights) override {
    if (n < length) return;
    for (int h = 0; h < config_.n_heads; ++h) {
      const auto& row = weights[static_cast<std::size_t>(h)];
      double sum = 0;
      for (int j = 0; j <= n; ++j)
        if (j < sinks || (begin_ <= j && j < end_) || j >= length) sum += row[static_cast<std::size_t>(j)];
      for (int j = begin_; j < end_; ++j) {
        double& most = worth[{layer, h / config_.group(), j}];
        most = std::max(most, row[static_cast<std::size_t>(j)] / sum);
      }
    }
  }

  std::map<std::tuple<int, int, int>, double> worth;  // layer, kv-head, token

 private:
  Config config_;
  int begin_, end_;
};

using Places = std::set<std::tuple<int, int, int>>;

/// Who leaves; `margin` becomes the difference between the best of these and the worst that stays, over the latter.
Places expected_victims(const Model& model, const std::vector<Token>& tokens, float share, bool per_head,
                        double& margin) {
  const Config& config = model.config();
  std::map<std::tuple<int, int, int>, double> worth;
  for (int begin = 0; begin < length; begin += chunk) {
    const int end = std::min(begin + chunk, length);
    std::vector<Token> text = tokens;
    const auto add = [&](const std::vector<Token>& more) { text.insert(text.end(), more.begin(), more.end()); };
    add(begin == 0 ? all : part);
    if (begin > 0) add({tokens.begin() + begin - overlap, tokens.begin() + begin});
    add(answer);
    add({tokens.begin() + begin, tokens.begin() + end});
    Replayed seen(config, begin, end);
    reference::forward(config, model.weights(), text, {.tau = std::nullopt, .visibility = &seen});
    for (const auto& [place, most] : seen.worth) {
      const auto [layer, head, token] = place;
      if (config.layers[static_cast<std::size_t>(layer)].window > 0) continue;
      double& whole = worth[{layer, per_head ? head : 0, token}];
      whole = std::max(whole, most);
    }
  }
  const auto rows = worth.size();
  std::vector<std::pair<double, std::tuple<int, int, int>>> order;
  for (const auto& [place, most] : worth)
    if (std::get<2>(place) >= sinks) order.emplace_back(most, place);
  std::ranges::sort(order);
  const auto stay = static_cast<std::size_t>(std::lround(static_cast<double>(share) * static_cast<double>(rows)));
  const auto leave = std::min(order.size(), rows - stay);
  Places out;
  for (std::size_t i = 0; i < leave; ++i) out.insert(order[i].second);
  margin = leave > 0 && leave < order.size() ? 1 - order[leave - 1].first / order[leave].first : 1;
  return out;
}

/// Rows that leave are not seen by the token behind the context, nor by later ones.
class Without : public reference::Visibility {
 public:
  Without(Places gone, bool per_head) : gone_(std::move(gone)), per_head_(per_head) {}
  bool sees(int layer, int kv_head, int n, int j) const override {
    return n < length || !gone_.contains({layer, per_head_ ? kv_head : 0, j});
  }

 private:
  Places gone_;
  bool per_head_;
};

void check(ModelSpec spec, int cases, float share, bool per_head) {
  spec.gate = ModelSpec::Gate::no;
  for_decided_models(spec, {.cases = cases}, [&](const Model& model, std::uint64_t seed) {
    const auto tokens = random_tokens(seed, model.config(), length + 20);
    const std::vector<Token> context(tokens.begin(), tokens.begin() + length);
    double margin = 0;
    const Places gone = expected_victims(model, context, share, per_head, margin);
    if (margin < 1e-4) return false;
    Without without(gone, per_head);
    const auto expected =
        reference::forward(model.config(), model.weights(), tokens, {.tau = std::nullopt, .visibility = &without});
    if (std::ranges::min(expected.min_margin) < 2e-5) return false;
    for (const int pass : {256, 7}) {
      SCOPED_TRACE("passes of " + std::to_string(pass));
      const prune::AnyPolicy policy = per_head ? prune::per_head(prune::none()) : prune::none();
      Session session(model, {.policy = policy, .threads = 2, .chunk = pass, .record_drops = true});
      Fed fed;
      const SequenceId sequence = session.add(context, Logits::all);
      step_into(session, sequence, fed.logits);
      const std::size_t used = session.stats().bytes_used;
      session.compress(sequence, context, replay(share));
      EXPECT_LE(session.stats().bytes_used, used) << "the copy is gone";
      for (const Token token : std::span(tokens).subspan(length)) {
        session.push(sequence, token);
        step_into(session, sequence, fed.logits);
      }
      EXPECT_LT(relative_error(fed.logits, expected.logits), 1e-5);
      const DropAt drops = session.drop_at(sequence);
      for (std::size_t layer = 0; layer < drops.size(); ++layer)
        for (std::size_t lane = 0; lane < drops[layer].size(); ++lane)
          if (model.config().layers[layer].window == 0) {
            EXPECT_EQ(drops[layer][lane], expected.drop_at[layer][lane]) << layer << ", " << lane;
          }
      session.finish(sequence);
      EXPECT_EQ(session.stats().bytes_used, 0u);
    }
    return true;
  });
}

TEST(ReplayTest, KeepsWhatEqualsTheMaskedForward) {
  for (const float share : {0.6f, 0.3f})
    for (const bool per_head : {true, false}) {
      SCOPED_TRACE(std::to_string(share) + (per_head ? ", by heads" : ", by layers"));
      check({.window = 0}, 4, share, per_head);
    }
}

TEST(ReplayTest, LeavesSlidingLayersAlone) { check({.n_layers = 3, .window = 9}, 2, 0.4f, true); }

TEST(ReplayTest, KeepsCapsAndScalesOfEveryArchitecture) {
  for (const Architecture architecture : architectures()) check({.architecture = architecture}, 1, 0.5f, true);
}

TEST(ReplayTest, OfAllRowsIsNothingAndOfNoneLeavesSinksAndPins) {
  const Model model = random_model({.seed = 3, .window = 0});
  const auto tokens = random_tokens(3, model.config(), length);
  Session session(model, {.policy = prune::none(), .threads = 1});
  const SequenceId one = session.add(tokens);
  session.step();
  session.compress(one, tokens, replay(1));
  EXPECT_EQ(session.stats(one).dropped_rows, 0u);
  const Position kept[] = {17};
  session.keep(one, kept);
  session.compress(one, tokens, replay(0));
  for (const std::size_t rows : session.stats(one).live_rows) EXPECT_EQ(rows, sinks + 1u);
}

TEST(ReplayTest, InEveryCacheFormat) {
  const Model model = random_model({.seed = 5, .head_dim = 32, .n_layers = 2, .window = 0});
  const auto tokens = random_tokens(5, model.config(), length);
  for (const KvFormat kv : kv_formats) {
    Session session(model, {.policy = prune::per_head(prune::none()), .kv = kv, .threads = 1});
    const SequenceId one = session.add(tokens);
    session.step();
    const std::uint64_t rows = session.stats(one).seen_rows;
    session.compress(one, tokens, replay(0.5f));
    EXPECT_EQ(session.stats(one).dropped_rows,
              rows - static_cast<std::uint64_t>(std::lround(0.5 * static_cast<double>(rows))));
    session.push(one, tokens[0]);
    for (const float logit : session.step()[0].logits) ASSERT_TRUE(std::isfinite(logit));
  }
}

TEST(ReplayTest, WhatCannotBeIsRefusedAndChangesNothing) {
  const Model model = random_model({.seed = 3, .window = 0, .context = 80});
  const auto tokens = random_tokens(3, model.config(), length);
  Session session(model, {.policy = prune::none(), .threads = 1, .context = 80});
  const SequenceId one = session.add(tokens);
  test::expect_error(ErrorCode::state, {"compress", "50 pending"}, [&] { session.compress(one, {}, replay(1)); });
  session.step();
  const auto refused = [&](std::vector<std::string> parts, const Replay& how) {
    test::expect_error(ErrorCode::argument, parts, [&] { session.compress(one, tokens, how); });
  };
  Replay how = replay(1.5f);
  refused({"share"}, how);
  how = replay(NAN);
  refused({"share"}, how);
  how = replay(0.5f);
  how.chunk = 0;
  refused({"chunk"}, how);
  how.chunk = 60;
  refused({"context's 80"}, how);
  how = replay(0.5f);
  how.all = {model.config().vocab_size};
  refused({"token"}, how);
  test::expect_error(ErrorCode::argument, {"tokens", "50", "49"},
                     [&] { session.compress(one, std::span(tokens).first(49), replay(0.5f)); });
  EXPECT_EQ(session.stats(one).dropped_rows, 0u);
  EXPECT_EQ(session.stats().bytes_used, session.stats(one).bytes_used);
}

}  // namespace
}  // namespace pith::testing
