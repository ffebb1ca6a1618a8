// SPDX-License-Identifier: MIT
// Where heads look, and which of them look things up.
#include "pith/retrieval.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <utility>

#include "pith/prune/methods.hpp"
#include "reference/decoder.hpp"
#include "support/decided_models.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

/// The likeliest row of each head at every token, of the transformer in double precision.
class Looks : public reference::Visibility {
 public:
  bool sees(int, int, int n, int j) const override { return window == 0 || n < j + window; }
  void attended(int layer, int n, const reference::Rows& weights) override {
    for (const auto& head : weights) {
      std::vector<double> sorted = head;
      std::ranges::sort(sorted, std::greater{});
      if (sorted.size() > 1) margin = std::min(margin, sorted[0] - sorted[1]);
      at[{layer, n}].push_back(static_cast<Position>(std::ranges::max_element(head) - head.begin()));
    }
  }

  int window = 0;
  double margin = 1;
  std::map<std::pair<int, int>, std::vector<Position>> at;
};

TEST(FocusTest, IsTheRowThatAHeadAttendsToMost) {
  for (const int window : {0, 12}) {
    for_decided_models(
        {.window = 0, .gate = ModelSpec::Gate::no, .plans = ModelSpec::Plans::any}, {.cases = 6},
        [&](const Model& model, std::uint64_t seed) {
          const auto tokens = random_tokens(seed, model.config(), 70);
          Looks looks;
          looks.window = window;
          reference::forward(model.config(), model.weights(), tokens, {.tau = std::nullopt, .visibility = &looks});
          if (looks.margin < 1e-5) return false;
          for (const bool per_head : {false, true}) {
            std::size_t passes = 0;
            prune::AnyPolicy policy = window > 0 ? prune::streaming({.sinks = 0, .recent = window}) : prune::none();
            SessionOptions options{
                .policy = per_head ? prune::per_head(policy) : policy, .threads = 1, .chunk = 16, .record_focus = true};
            options.on_pass = [&](const PassInfo& pass) {
              ++passes;
              const int n = pass.first + static_cast<int>(pass.tokens.size()) - 1;
              std::vector<Position> expected;
              for (int layer = 0; layer < model.config().n_layers(); ++layer)
                std::ranges::copy(looks.at[{layer, n}], std::back_inserter(expected));
              EXPECT_EQ(std::vector<Position>(pass.focus.begin(), pass.focus.end()), expected) << "after token " << n;
            };
            Session session(model, std::move(options));
            const SequenceId sequence = session.add(std::span(tokens).first(50));
            session.step();
            for (const Token token : std::span(tokens).subspan(50)) {
              session.push(sequence, token);
              session.step();
            }
            EXPECT_EQ(passes, 4u + 20u);
          }
          return true;
        });
  }
}

// To queries of zeros all rows are alike; what was forgotten has left holes, into which later rows have moved.
TEST(FocusTest, OfEqualsIsTheEarliest) {
  const Model random = random_model({.seed = 2, .n_layers = 2, .window = 0, .gate = ModelSpec::Gate::no});
  SCOPED_TRACE(describe(random));
  Weights weights = random.weights();
  for (LayerWeights& layer : weights.layers) {
    const std::vector<float> zeros(layer.wq.weight.rows() * layer.wq.weight.cols());
    layer.wq.weight = Matrix::encode(Format::f32, {zeros.data(), layer.wq.weight.rows(), layer.wq.weight.cols()});
    std::ranges::fill(layer.wq.bias, 0.0f);
  }
  const Model model = Model::create(random.config(), std::move(weights));
  const auto heads = static_cast<std::size_t>(model.config().n_heads);
  std::vector<Position> focus;
  SessionOptions options{.threads = 1, .record_focus = true};
  options.on_pass = [&](const PassInfo& pass) { focus.assign(pass.focus.begin(), pass.focus.end()); };
  Session session(model, std::move(options));
  const SequenceId sequence = session.add(random_tokens(2, model.config(), 50));
  session.step();
  EXPECT_EQ(focus, std::vector<Position>(2 * heads, 0));
  session.forget(sequence, 1, std::vector<Position>{0, 1, 7});
  session.push(sequence, 3);
  session.step();
  std::vector<Position> expected(heads, 0);
  expected.resize(2 * heads, 2);
  EXPECT_EQ(focus, expected);
}

TEST(FocusTest, IsEmptyWhereNobodyAsks) {
  const Model model = random_model({.seed = 1});
  SessionOptions options{.threads = 1};
  options.on_pass = [](const PassInfo& pass) { EXPECT_TRUE(pass.focus.empty()); };
  Session session(model, std::move(options));
  session.add(random_tokens(1, model.config(), 20));
  session.step();
}

constexpr int vocabulary = 24, positions = 40, offset = 17;

/// One layer, two heads. A token's vector is one-hot in its id and in its position. The first head looks `offset`
/// tokens back and copies what is there to the output; the second attends to nothing in particular, and adds nothing.
Model induction_model() {
  Config config;
  config.architecture = Architecture::gpt2;
  config.vocab_size = vocabulary;
  config.d_model = vocabulary + positions + vocabulary;  // id, position, what is given out
  config.n_heads = config.n_kv_heads = 2;
  config.head_dim = positions;
  config.d_ff = 1;
  config.context = positions;
  config.learned_positions = true;
  config.layers = {LayerPlan{.pre_norms = false, .mlp = Mlp::plain, .rope = -1}};
  const auto d = static_cast<std::size_t>(config.d_model);
  const auto matrix = [](std::size_t rows, std::size_t cols, auto&& at) {
    std::vector<float> values(rows * cols);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c)
        values[r * cols + c] = at(static_cast<int>(r), static_cast<int>(c)) ? 1.0f : 0.0f;
    return values;
  };
  const auto encode = [](std::size_t rows, std::size_t cols, std::vector<float> values, float scale = 1) {
    for (float& value : values) value *= scale;
    return Matrix::encode(Format::f32, {values.data(), rows, cols});
  };
  Weights w;
  w.embedding = encode(vocabulary, d, matrix(vocabulary, d, [](int r, int c) { return r == c; }));
  w.positions = encode(positions, d, matrix(positions, d, [](int r, int c) { return c == vocabulary + r; }));
  w.layers.resize(1);
  LayerWeights& layer = w.layers[0];
  const std::size_t wide = 2 * positions;
  // Query n of the first head is the key of position n - offset; scores are large, and the other head's are 0.
  layer.wq.weight = encode(
      wide, d,
      matrix(wide, d,
             [](int r, int c) { return r < positions && c == vocabulary + r + offset && r + offset < positions; }),
      400);
  layer.wk.weight = encode(wide, d, matrix(wide, d, [](int r, int c) { return r < positions && c == vocabulary + r; }));
  layer.wv.weight = encode(wide, d, matrix(wide, d, [](int r, int c) { return r < vocabulary && r == c; }));
  layer.wo.weight =
      encode(d, wide, matrix(d, wide, [](int r, int c) { return c < vocabulary && r == vocabulary + positions + c; }));
  layer.mlp.up.weight = encode(1, d, std::vector<float>(d));
  layer.mlp.down.weight = encode(d, 1, std::vector<float>(d));
  w.final_norm.weight = std::vector<float>(d, 1);
  w.head = encode(vocabulary, d, matrix(vocabulary, d, [](int r, int c) { return c == vocabulary + positions + r; }));
  return Model::create(config, w);
}

/// The needle of 4 tokens lies where the first head looks when it answers.
NeedleTrial copying_trial() {
  NeedleTrial trial;
  for (int i = 0; i < 30; ++i) trial.prompt.push_back(i % 5);
  trial.begin = 29 - offset;
  trial.end = trial.begin + 4;
  for (std::size_t i = 0; i < 4; ++i) trial.prompt[trial.begin + i] = static_cast<Token>(10 + i);
  return trial;
}

TEST(RetrievalTest, AHeadThatCopiesScoresOneAndAUniformOneZero) {
  const Model model = induction_model();
  const NeedleAnswer one = answer(model, copying_trial(), 4, {}, {.policy = prune::none(), .threads = 1});
  EXPECT_EQ(one.tokens, (std::vector<Token>{10, 11, 12, 13}));
  EXPECT_FLOAT_EQ(one.found[0][0], 1);
  EXPECT_FLOAT_EQ(one.found[0][1], 0);
  EXPECT_EQ(mean_by_kv_head(model.config(), std::vector{one}).scores, (std::vector<std::vector<float>>{{1, 0}}));
}

TEST(RetrievalTest, ATokenThatRepeatsCountsOnceAStep) {
  NeedleTrial repeating = copying_trial();
  for (std::size_t i = 0; i < 4; ++i) repeating.prompt[repeating.begin + i] = 10;
  const NeedleAnswer one = answer(induction_model(), repeating, 2, {}, {.policy = prune::none(), .threads = 1});
  EXPECT_EQ(one.tokens, (std::vector<Token>{10, 10}));
  EXPECT_FLOAT_EQ(one.found[0][0], 0.5);
}

TEST(RetrievalTest, AnEndEndsAndWhatIsOutsideTheNeedleDoesNotCount) {
  const Model model = induction_model();
  const Token ends[] = {12};
  const NeedleAnswer ended = answer(model, copying_trial(), 9, ends, {.policy = prune::none(), .threads = 1});
  EXPECT_EQ(ended.tokens, (std::vector<Token>{10, 11}));
  EXPECT_FLOAT_EQ(ended.found[0][0], 0.5);
  const NeedleAnswer longer = answer(model, copying_trial(), 100, {}, {.policy = prune::none(), .threads = 1});
  EXPECT_EQ(longer.tokens.size(), 11u) << "the context is full";
  EXPECT_FLOAT_EQ(longer.found[0][0], 1);
}

TEST(RetrievalTest, MeansAreOfTrialsAndTheBestOfAGroup) {
  Config config = induction_model().config();
  config.n_heads = 4;
  const std::vector<NeedleAnswer> answers = {{{}, {{0.5f, 0.1f, 0, 0}}}, {{}, {{0.1f, 0.4f, 0, 0.2f}}}};
  const auto scores = mean_by_kv_head(config, answers).scores;
  EXPECT_FLOAT_EQ(scores[0][0], 0.3f);
  EXPECT_FLOAT_EQ(scores[0][1], 0.1f);
  EXPECT_EQ(mean_by_kv_head(config, {}).scores[0][0], 0);
}

TEST(RetrievalTest, ANeedleThatIsNotThereIsRefused) {
  const Model model = induction_model();
  test::expect_error(ErrorCode::argument, {"needle", "2 tokens", "[1, 3)"}, [&] { answer(model, {{1, 2}, 1, 3}, 1); });
  test::expect_error(ErrorCode::argument, {"needle", "[1, 1)"}, [&] { answer(model, {{1, 2}, 1, 1}, 1); });
  test::expect_error(ErrorCode::argument, {"tokens"}, [&] { answer(model, copying_trial(), 0); });
}

}  // namespace
}  // namespace pith::testing
