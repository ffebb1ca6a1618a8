// SPDX-License-Identifier: MIT
// Of demonstrations only the anchors stay.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "pith/generator.hpp"
#include "pith/prune/methods.hpp"
#include "reference/decoder.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr Position begin = 3, end = 40;
const std::vector<Position> pins = {5, 6, 19, 39};

/// Rows of so many tokens.
std::size_t left(Position tokens) { return static_cast<std::size_t>(tokens - (end - begin)) + pins.size(); }

/// The tokens of [begin, end) but the pins are seen by those before `end` alone.
class OnlyAnchors : public reference::Visibility {
 public:
  bool sees(int, int, int n, int j) const override {
    return j < begin || j >= end || n < end || std::ranges::count(pins, j) > 0;
  }
};

Fed compressed(const Model& model, std::span<const Token> tokens, const std::vector<Position>& kept, bool ahead,
               SessionOptions options) {
  options.threads = 1;
  options.record_drops = true;
  Session session(model, std::move(options));
  Fed fed;
  // Ahead: in the middle of one prompt. Else after a prompt that ends there.
  const auto first = static_cast<std::size_t>(ahead ? 60 : end);
  const SequenceId sequence = session.add(tokens.first(first), Logits::all);
  if (ahead) session.compress(sequence, begin, end, kept);
  step_into(session, sequence, fed.logits);
  if (!ahead) session.compress(sequence, begin, end, kept);
  for (const Token token : tokens.subspan(first)) {
    session.push(sequence, token);
    step_into(session, sequence, fed.logits);
  }
  fed.drop_at = session.drop_at(sequence);
  fed.stats = session.stats(sequence);
  return fed;
}

TEST(AnchorsTest, EqualTheMaskedForward) {
  for (const Architecture architecture : architectures()) {
    const Model model =
        random_model({.seed = 7, .architecture = architecture, .window = 0, .gate = ModelSpec::Gate::no});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(7, model.config(), 80);
    OnlyAnchors only;
    const auto expected = reference::forward(model.config(), model.weights(), tokens, {.visibility = &only});
    if (std::ranges::min(expected.min_margin) < 2e-5) continue;
    for (const bool ahead : {false, true})
      for (const int chunk : {256, 16, 1}) {
        SCOPED_TRACE((ahead ? "ahead, chunks of " : "afterwards, chunks of ") + std::to_string(chunk));
        const Fed fed = compressed(model, tokens, pins, ahead, {.policy = prune::none(), .chunk = chunk});
        EXPECT_LT(relative_error(fed.logits, expected.logits), 1e-5);
        for (std::size_t layer = 0; layer < fed.drop_at.size(); ++layer)
          EXPECT_EQ(fed.drop_at[layer][0], expected.drop_at[layer][0]);
        for (const std::size_t rows : fed.stats.live_rows) EXPECT_EQ(rows, left(80));
      }
  }
}

TEST(AnchorsTest, ThatAreAllOfItChangeNothing) {
  const Model model = random_model({.seed = 8, .window = 0});
  const auto tokens = random_tokens(8, model.config(), 70);
  std::vector<Position> all(end - begin);
  std::iota(all.begin(), all.end(), begin);
  const Fed plain = feed(model, std::span(tokens).first(end), {16}, {.policy = prune::none()});
  Session session(model, {.policy = prune::none(), .threads = 1, .chunk = 16});
  const SequenceId one = session.add(std::span(tokens).first(end)), two = session.fork(one);
  while (!session.idle()) session.step();
  session.compress(two, begin, end, all);
  EXPECT_EQ(session.stats(two).bytes_used, session.stats(one).bytes_used);
  for (const Token token : std::span(tokens).subspan(end)) {
    session.push(one, token);
    session.push(two, token);
    const auto outputs = session.step();
    ASSERT_EQ(outputs.size(), 2u);
    EXPECT_EQ(copy(outputs[0].logits), copy(outputs[1].logits));
  }
}

TEST(AnchorsTest, StayWhateverThePolicyDoes) {
  const Model model = random_model({.seed = 9, .window = 0});
  const auto tokens = random_tokens(9, model.config(), 80);
  for (const bool ahead : {false, true}) {
    const Fed fed = compressed(model, tokens, pins, ahead, {.policy = prune::streaming({.sinks = 1, .recent = 6})});
    for (const auto& layer : fed.drop_at)
      for (const auto& lane : layer)
        for (Position j = 0; j < 70; ++j)
          EXPECT_EQ(lane[static_cast<std::size_t>(j)] < 0,
                    j == 0 || (ahead && std::ranges::count(pins, j) > 0) || (!ahead && j == 39))
              << j << (ahead ? " ahead" : "");
  }
}

TEST(AnchorsTest, OfAForkAreItsOwn) {
  const Model model = random_model({.seed = 9, .window = 0});
  const auto tokens = random_tokens(9, model.config(), 60);
  Session session(model, {.policy = prune::none(), .threads = 1, .chunk = 16});
  const SequenceId one = session.add(tokens);
  session.compress(one, begin, end, pins);
  const SequenceId two = session.fork(one);
  while (!session.idle()) session.step();
  EXPECT_EQ(session.stats(two).live_rows, session.stats(one).live_rows);
  EXPECT_GT(session.stats(two).dropped_rows, 0u);
  session.finish(one);
  session.finish(two);
  EXPECT_EQ(session.stats().bytes_used, 0u);
}

TEST(AnchorsTest, OfARequestLeaveItsPrompt) {
  const Model model = random_model({.seed = 10, .window = 0});
  const auto tokens = random_tokens(10, model.config(), 60);
  const Fed fed = compressed(model, tokens, pins, true, {.policy = prune::none(), .chunk = 16});
  Generator generator(model, std::nullopt, {.policy = prune::none(), .threads = 1, .chunk = 16});
  Request request{.prompt = tokens, .max_tokens = 1, .sampler = {.temperature = 0}};
  // The generator compresses from a prompt's first token on: what stands before `begin` is an anchor, too.
  request.anchors = {end, {0, 1, 2}};
  for (const Position pin : pins) request.anchors.tokens.push_back(static_cast<std::size_t>(pin));
  std::size_t rows = 0;
  request.on_piece = [&](const Piece& piece) {
    if (piece.token) {
      EXPECT_EQ(*piece.token, std::ranges::max_element(fed.logits.back()) - fed.logits.back().begin());
    }
    if (piece.sequence) rows = generator.session().stats(*piece.sequence).live_rows[0];
  };
  generator.generate(request);
  EXPECT_EQ(rows, left(60));
  request.anchors = {61, {}};
  test::expect_error(ErrorCode::argument, {"anchors", "60", "61"}, [&] { generator.submit(request); });
  request.anchors = {5, {5}};
  test::expect_error(ErrorCode::argument, {"anchors", "below 5"}, [&] { generator.submit(request); });
}

TEST(AnchorsTest, ThatLieElsewhereAreRefused) {
  const Model model = random_model({.seed = 9, .context = 64});
  Session session(model, {.threads = 1});
  const SequenceId one = session.add(random_tokens(9, model.config(), 30));
  const Position outside[] = {30};
  test::expect_error(ErrorCode::argument, {"compress", "[5, 4)"}, [&] { session.compress(one, 5, 4, {}); });
  test::expect_error(ErrorCode::argument, {"compress", "64", "[0, 65)"}, [&] { session.compress(one, 0, 65, {}); });
  test::expect_error(ErrorCode::argument, {"compress", "pins from 10 to 29", "30"},
                     [&] { session.compress(one, 10, 30, outside); });
  session.finish(one);
  test::expect_error(ErrorCode::state, {"finished"}, [&] { session.compress(one, 0, 1, {}); });
}

}  // namespace
}  // namespace pith::testing
