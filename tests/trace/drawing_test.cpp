// SPDX-License-Identifier: MIT
// Drawings of random traces, of lanes per layer and per head: what stands where, frame for frame.
#include "pith/drawing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "pith/trace.hpp"
#include "support/errors.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

namespace fs = std::filesystem;

constexpr Colour self{217, 119, 6};  // a query, on the maps' diagonal

Trace random_trace(std::uint64_t seed, std::size_t layers, std::size_t lanes, std::size_t n, int vocabulary) {
  Random random(seed);
  Trace trace;
  for (std::size_t i = 0; i < n; ++i) trace.tokens.push_back(random.integer(0, vocabulary - 1));
  trace.drop_at.assign(layers, std::vector(lanes, std::vector<std::int32_t>(n, -1)));
  for (auto& layer : trace.drop_at)
    for (auto& lane : layer)
      for (std::size_t j = 0; j < n; ++j)
        if (random.uniform() < 0.7) lane[j] = random.integer(static_cast<int>(j) + 1, static_cast<int>(n));
  return trace;
}

class DrawingTest : public ::testing::Test {
 protected:
  const Tokenizer tokenizer = Tokenizer::load(fs::path(PITH_MODELS_DIR) / "bookworm-1m");
};

template <class T>
std::vector<T> all(const Drawing& drawing) {
  std::vector<T> found;
  for (const Shape& shape : drawing.shapes)
    if (const T* one = std::get_if<T>(&shape)) found.push_back(*one);
  return found;
}

void expect_on_page(const Drawing& d) {
  const auto inside = [&](double x, double y) { return x >= 0 && x <= d.width && y >= 0 && y <= d.height; };
  for (const Rect& r : all<Rect>(d)) {
    EXPECT_TRUE(inside(r.x, r.y) && inside(r.x + r.width, r.y + r.height)) << r.x << ' ' << r.y;
    EXPECT_TRUE(r.width > 0 && r.height > 0);
  }
  for (const Line& l : all<Line>(d))
    for (const Point p : l.points) EXPECT_TRUE(inside(p.x, p.y)) << p.x << ' ' << p.y;
  for (const Arrow& a : all<Arrow>(d))
    for (const Point p : {a.from, a.control_1, a.control_2, a.to}) EXPECT_TRUE(inside(p.x, p.y)) << p.x << ' ' << p.y;
  for (const Label& l : all<Label>(d)) EXPECT_TRUE(inside(l.x, l.y) && inside(l.x + l.width, l.y)) << l.text;
}

TEST_F(DrawingTest, StaysOnItsPageForEveryShapeOfTrace) {
  for (const std::size_t layers : {1u, 5u, 30u})
    for (const std::size_t lanes : {1u, 3u})
      for (const std::size_t n : {1u, 2u, 40u, 299u, 301u, 1500u}) {
        if (layers * n > 10000) continue;
        SCOPED_TRACE(::testing::Message() << layers << " layers, " << lanes << " lanes, " << n << " tokens");
        const Trace trace = random_trace(layers + lanes + n, layers, lanes, n, tokenizer.vocab_size());
        expect_on_page(draw(trace, tokenizer));
        for (const std::size_t layer : {std::size_t{0}, layers - 1})
          expect_on_page(draw_layer(trace, tokenizer, layer));
        for (const std::size_t now : {std::size_t{1}, (n + 1) / 2, n})
          expect_on_page(draw_moment(trace, tokenizer, now));
      }
}

TEST_F(DrawingTest, MomentsHaveOneSizeAndOnlyGrow) {
  const Trace trace = random_trace(1, 3, 2, 60, tokenizer.vocab_size());
  const Drawing whole = draw(trace, tokenizer);
  for (std::size_t now = 1; now <= trace.tokens.size(); ++now) {
    const Drawing moment = draw_moment(trace, tokenizer, now);
    EXPECT_EQ(moment.width, whole.width);
    EXPECT_EQ(moment.height, whole.height);
    const auto rects = all<Rect>(moment);
    // One cell of the diagonal for each query of each layer, and the legend's.
    EXPECT_EQ(std::ranges::count(rects, self, &Rect::fill), static_cast<std::ptrdiff_t>(3 * now + 1));
  }
}

TEST_F(DrawingTest, ArrowsOfAMomentAreWhatItsLastTokenDrops) {
  const Trace trace = random_trace(2, 2, 2, 50, tokenizer.vocab_size());
  std::size_t most = 0;
  for (std::size_t now = 1; now <= trace.tokens.size(); ++now) {
    std::size_t dropped = 0;
    for (std::size_t j = 0; j < trace.tokens.size(); ++j) {
      bool by_it = false;
      for (const auto& layer : trace.drop_at)
        for (const auto& lane : layer) by_it = by_it || lane[j] == static_cast<std::int32_t>(now) - 1;
      dropped += by_it ? 1u : 0u;
    }
    EXPECT_EQ(all<Arrow>(draw_moment(trace, tokenizer, now)).size(), dropped + 1) << now;  // one is the legend's
    most = std::max(most, dropped);
  }
  EXPECT_GT(most, 3u);
}

/// The x of the middles of the places of tokens that stand in one line.
std::vector<double> middles(const std::vector<Token>& tokens, const Tokenizer& tokenizer) {
  std::vector<double> xs;
  double x = 20;
  for (const Token token : tokens) {
    const double width = 8.4 * static_cast<double>(columns(tokenizer.piece(token)));
    xs.push_back(x + width / 2);
    x += width;
  }
  return xs;
}

TEST_F(DrawingTest, ArrowsOfALayerGoFromEachTokenToAllThatItDropped) {
  Trace trace;
  trace.tokens = tokenizer.encode("The old house stood at the end of the lane");
  const std::size_t n = trace.tokens.size();
  ASSERT_GE(n, 9u);
  const auto last = static_cast<std::int32_t>(n) - 1;
  std::vector<std::int32_t> none(n, -1), some = none;
  some[0] = 3, some[1] = some[2] = last, some[4] = last, some[5] = last - 1, some[6] = static_cast<std::int32_t>(n);
  trace.drop_at = {{none}, {some}};
  const auto x = middles(trace.tokens, tokenizer);
  const double run = (x[1] + x[2]) / 2 + (x[2] - x[1]) / 2 -  // the middle of tokens 1 and 2 together
                     8.4 * static_cast<double>(columns(tokenizer.piece(trace.tokens[1]))) / 2;

  std::vector<std::pair<double, double>> found;
  auto arrows = all<Arrow>(draw_layer(trace, tokenizer, 1));
  for (const Arrow& a : std::span(arrows).subspan(1))
    found.emplace_back(a.from.x, a.to.x);  // the first is the legend's
  const auto end = n - 1;
  const std::vector<std::pair<double, double>> expected = {
      {x[3], x[0]}, {x[end - 1], x[5]}, {x[end], run}, {x[end], x[4]}};
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i].first, expected[i].first, 1e-6) << i;
    EXPECT_NEAR(found[i].second, expected[i].second, 1e-6) << i;
  }
  EXPECT_NE(arrows[2].stroke, arrows[3].stroke);
  EXPECT_EQ(arrows[3].stroke, arrows[4].stroke);
  EXPECT_EQ(all<Arrow>(draw_layer(trace, tokenizer, 0)).size(), 1u);
}

TEST_F(DrawingTest, EveryDropOfALayerIsReached) {
  for (const std::size_t lanes : {1u, 3u}) {
    const Trace trace = random_trace(5, 2, lanes, 90, tokenizer.vocab_size());
    const auto lane_drops = trace.drop_at[1];
    std::size_t runs = 0;  // at least: a run has one dropper, and is broken where a line is
    for (std::size_t q = 1; q < 90; ++q)
      for (std::size_t j = 0, was = 0; j < q; ++j) {
        const bool dropped =
            std::ranges::any_of(lane_drops, [&](const auto& lane) { return lane[j] == static_cast<std::int32_t>(q); });
        runs += dropped && was == 0 ? 1u : 0u;
        was = dropped ? 1 : 0;
      }
    EXPECT_GE(all<Arrow>(draw_layer(trace, tokenizer, 1)).size(), runs + 1);
  }
}

TEST_F(DrawingTest, LegendsNameADropperWhereTheGateDropped) {
  Trace trace = random_trace(5, 2, 1, 40, tokenizer.vocab_size());
  const auto says = [](const Drawing& drawing, std::string_view words) {
    return std::ranges::any_of(all<Label>(drawing), [&](const Label& l) { return l.text.ends_with(words); });
  };
  const std::string_view made_room = "went just before it, in its colour", decided = "it dropped, in its colour";
  EXPECT_TRUE(says(draw_layer(trace, tokenizer, 1), made_room));
  for (const auto& layer : trace.drop_at) trace.gate_score.emplace_back(layer.size(), std::vector<float>(40, -1));
  EXPECT_TRUE(says(draw_layer(trace, tokenizer, 1), decided));
  EXPECT_TRUE(says(draw(trace, tokenizer), "to what they dropped (up to 60)"));
  EXPECT_TRUE(says(draw_moment(trace, tokenizer, 20), "to what it drops (up to 60)"));
  trace.gate_score.clear();
  EXPECT_TRUE(says(draw(trace, tokenizer), "went just before them (up to 60)"));
  EXPECT_TRUE(says(draw_moment(trace, tokenizer, 20), "went just before it (up to 60)"));
}

TEST_F(DrawingTest, LayersOutsideTheTraceAreRefused) {
  const Trace trace = random_trace(3, 2, 1, 5, tokenizer.vocab_size());
  EXPECT_EQ(error_of([&] { draw_layer(trace, tokenizer, 2); }), ErrorCode::argument);
}

TEST_F(DrawingTest, MomentsOutsideTheTraceAreRefused) {
  const Trace trace = random_trace(3, 1, 1, 5, tokenizer.vocab_size());
  EXPECT_EQ(error_of([&] { draw_moment(trace, tokenizer, 0); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { draw_moment(trace, tokenizer, 6); }), ErrorCode::argument);
}

TEST_F(DrawingTest, ATraceWithoutTokensIsAnEmptyPage) {
  Trace trace;
  trace.drop_at.assign(2, std::vector(1, std::vector<std::int32_t>{}));
  expect_on_page(draw(trace, tokenizer));
  expect_on_page(draw_layer(trace, tokenizer, 1));
}

TEST_F(DrawingTest, LineFeedsAreSigns) {
  Trace trace;
  trace.tokens = tokenizer.encode("one\ntwo");
  trace.drop_at.assign(1, std::vector(1, std::vector<std::int32_t>(trace.tokens.size(), -1)));
  std::string words;
  for (const Label& l : all<Label>(draw(trace, tokenizer)))
    if (l.size == 14) words += l.text;
  EXPECT_EQ(words, "one\u21b5two");
}

TEST_F(DrawingTest, CharactersOfSeveralTokensAreWhole) {
  Trace trace;
  const std::string text = "caf\u00e9 \U0001f600.";
  trace.tokens = tokenizer.encode(text);
  trace.drop_at.assign(1, std::vector(1, std::vector<std::int32_t>(trace.tokens.size(), -1)));
  std::string words;
  for (const Label& l : all<Label>(draw(trace, tokenizer)))
    if (l.size == 14) words += l.text;
  EXPECT_EQ(words, "caf\u00e9\U0001f600.");
}

TEST(ColumnsTest, WideCharactersTakeTwoAndMarksNone) {
  EXPECT_EQ(columns("abc"), 3u);
  EXPECT_EQ(columns("\u00e9e\u0301"), 2u);
  EXPECT_EQ(columns("\u4f60\U0001f600"), 4u);
  EXPECT_EQ(columns("\u201c\u2014\ufffd"), 3u);
  EXPECT_EQ(columns("\xff"), 1u);
  EXPECT_EQ(columns(""), 0u);
}

TEST(SvgTest, TextIsEscaped) {
  Drawing drawing{100, 50, {label("<a> & 'b'\x01", 1, 2, {})}};
  EXPECT_NE(to_svg(drawing).find(">&lt;a>\u00a0&amp;\u00a0'b'\ufffd</text>"), std::string::npos) << to_svg(drawing);
}

TEST(KeptRowsTest, CountsWhatEachQuerySees) {
  EXPECT_EQ(kept_rows({{-1, 2, 3, -1}}), (std::vector<double>{1, 2, 2, 2}));
  EXPECT_EQ(kept_rows({{1, -1}, {-1, -1}}), (std::vector<double>{1, 1.5}));
  EXPECT_EQ(kept_rows({{2, 2}}), (std::vector<double>{1, 2}));
  EXPECT_TRUE(kept_rows({}).empty());
}

}  // namespace
}  // namespace pith::testing
