// SPDX-License-Identifier: MIT
// Two ways to the same numbers: the transformer in double precision against the fixtures, and the library, which really
// forgets, against the masked forward pass of the transformer in double precision.
#include "reference/decoder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "pith/prune/methods.hpp"
#include "pith/tensor/ops.hpp"
#include "support/compare.hpp"
#include "support/decided_models.hpp"
#include "support/feed.hpp"
#include "support/golden.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

TEST(ReferenceTest, AgreesWithTheFixtures) {
  for (const std::string& name : golden_names()) {
    SCOPED_TRACE(name);
    const Golden expected = golden(name);
    const Model model = Model::load(expected.path);
    const auto result = reference::forward(model.config(), model.weights(), expected.tokens);
    EXPECT_LT(relative_error(result.logits, expected.logits), 1e-6);
    for (std::size_t layer = 0; layer < expected.drop_at.size(); ++layer) {
      for (const auto& kv_head : result.drop_at[layer])
        EXPECT_EQ(kv_head, expected.drop_at[layer]) << "layer " << layer;
      if (model.config().gate) {
        EXPECT_NEAR(result.min_margin[layer], expected.min_margin[layer], 1e-9);
      }
    }
  }
}

// Judgements closer to the threshold than this may fall differently in single precision.
constexpr double decided = 2e-5;

bool is_decided(const reference::Result& result, double margin = decided) {
  return std::ranges::min(result.min_margin) > margin;
}

/// Lanes of the library against the kv-heads of the reference; a lane that all heads share stands for each.
void expect_drops(const reference::Result& expected, const Fed& fed) {
  ASSERT_EQ(fed.drop_at.size(), expected.drop_at.size());
  for (std::size_t layer = 0; layer < expected.drop_at.size(); ++layer)
    for (std::size_t head = 0; head < expected.drop_at[layer].size(); ++head)
      EXPECT_EQ(fed.drop_at[layer][fed.drop_at[layer].size() == 1 ? 0 : head], expected.drop_at[layer][head])
          << "layer " << layer << ", kv-head " << head;
}

/// Runs `cases` random models made by `spec`, skipping those whose gate is undecided somewhere.
void check_random(int cases, std::uint64_t first_seed, ModelSpec spec, double tolerance, SessionOptions options = {},
                  std::size_t length = 100) {
  for_decided_models(
      spec, {.first = first_seed, .end = first_seed + 10 * static_cast<std::uint64_t>(cases), .cases = cases},
      [&](const Model& model, std::uint64_t seed) {
        // Which experts are chosen is decided for every token and layer: where much is rounded, few are enough.
        const bool routed = std::ranges::any_of(
            model.config().layers, [](const LayerPlan& plan) { return plan.experts.chosen < plan.experts.count; });
        const auto tokens = random_tokens(seed, model.config(), routed && tolerance > 1e-3 ? 10 : length);
        const auto expected = reference::forward(model.config(), model.weights(), tokens, {.kv = options.kv});
        // What rounds more is nearer to a different judgement, too.
        if (!is_decided(expected, std::max(decided, 2 * tolerance))) return false;
        for (const Feeding feeding : {Feeding{256}, Feeding{13}, Feeding{Feeding::decode}}) {
          SCOPED_TRACE(feeding.name());
          const Fed fed = feed(model, tokens, feeding, options);
          EXPECT_LT(relative_error(fed.logits, expected.logits), tolerance);
          expect_drops(expected, fed);
        }
        return true;
      });
}

class ArchitectureTest : public ::testing::TestWithParam<Architecture> {};

TEST_P(ArchitectureTest, EvictingEqualsMasking) { check_random(6, 100, {.architecture = GetParam()}, 1e-5); }

TEST_P(ArchitectureTest, EvictingByHeadsEqualsMasking) {
  check_random(6, 150, {.architecture = GetParam(), .gate_scope = GateScope::kv_head}, 1e-5);
}

TEST_P(ArchitectureTest, DenseEqualsDense) {
  check_random(4, 200, {.architecture = GetParam(), .gate = ModelSpec::Gate::no}, 1e-5);
}

TEST_P(ArchitectureTest, SixteenBitWeightsAreExactInputs) {
  check_random(2, 300, {.architecture = GetParam(), .format = Format::f16}, 1e-5);
  check_random(2, 400, {.architecture = GetParam(), .format = Format::bf16}, 1e-5);
}

// A number that single precision rounds to another quant moves the logits by more than rounding does.
TEST_P(ArchitectureTest, QuantisedWeightsAreMultipliedWithQuantisedRows) {
  for (const Format format : all_formats)
    if (wants_quantised(format))
      check_random(2, 500, {.architecture = GetParam(), .format = format, .gate = ModelSpec::Gate::no}, 2e-2);
}

TEST_P(ArchitectureTest, SlidingWindowForgetsToo) {
  check_random(3, 600, {.architecture = GetParam(), .window = 9}, 1e-5);
}

TEST_P(ArchitectureTest, RoundedCachesAreRoundedAndNoMore) {
  check_random(2, 700, {.architecture = GetParam(), .gate = ModelSpec::Gate::no}, 2e-3, {.kv = KvFormat::f16});
  check_random(2, 800, {.architecture = GetParam(), .head_dim = 32, .gate = ModelSpec::Gate::no}, 2e-2,
               {.kv = KvFormat::q8_0});
  // A number that single precision rounds to another of sixteen quants moves much.
  check_random(2, 820, {.architecture = GetParam(), .head_dim = 96, .n_layers = 1, .gate = ModelSpec::Gate::no}, 5e-2,
               {.kv = KvFormat::q4_0});
  check_random(2, 840, {.architecture = GetParam(), .head_dim = 32, .gate = ModelSpec::Gate::no}, 2e-2,
               {.kv = {KvFormat::q8_0, KvFormat::f16}});
}

INSTANTIATE_TEST_SUITE_P(Each, ArchitectureTest, ::testing::ValuesIn(architectures()),
                         [](const auto& test) { return std::string(name(test.param)); });

// Layers of every kind, with what no architecture that is read today has.
TEST(ReferenceTest, EveryPlanEqualsTheMaskedForward) {
  check_random(60, 2000, {.plans = ModelSpec::Plans::any}, 1e-5);
  check_random(10, 3000, {.window = 7, .plans = ModelSpec::Plans::any}, 1e-5);
  check_random(10, 4000, {.gate_scope = GateScope::kv_head, .plans = ModelSpec::Plans::any}, 1e-5);
}

// Layers that read the keys and values of another, and have no gate either.
TEST(ReferenceTest, SharedKeysAndValuesEqualTheMaskedForward) {
  constexpr auto shared = ModelSpec::Lanes::shared;
  check_random(12, 5000, {.n_layers = 4, .lanes = shared}, 1e-5);
  check_random(12, 5100, {.n_layers = 4, .plans = ModelSpec::Plans::any, .lanes = shared}, 1e-5);
  check_random(4, 5200, {.n_layers = 5, .gate_scope = GateScope::kv_head, .window = 7, .lanes = shared}, 1e-5);
}

// Longer than what one task of the attention takes on at a time, in pages and in queries.
TEST(ReferenceTest, LongSequencesEqualTheMaskedForward) {
  check_random(1, 900, {.architecture = Architecture::llama, .n_layers = 2, .gate_bias = 4.0f, .context = 1024}, 2e-5,
               {}, 900);
  check_random(1, 950,
               {.architecture = Architecture::qwen3, .n_layers = 1, .context = 1024, .gate = ModelSpec::Gate::no}, 2e-5,
               {}, 700);
}

TEST(ReferenceTest, TauMovesTheThreshold) {
  for (const float tau : {-1.0f, -0.3f, 0.4f, 1.5f}) {
    const Model model = random_model({.seed = 17});
    SCOPED_TRACE("tau " + std::to_string(tau) + ": " + describe(model));
    const auto tokens = random_tokens(17, model.config(), 120);
    const auto expected =
        reference::forward(model.config(), model.weights(), tokens, {.tau = static_cast<double>(tau)});
    ASSERT_TRUE(is_decided(expected));
    const Fed fed = feed(model, tokens, {16}, {.policy = prune::learned_gate({.tau = tau})});
    EXPECT_LT(relative_error(fed.logits, expected.logits), 1e-5);
    expect_drops(expected, fed);
  }
}

TEST(ReferenceTest, AJudgementOfExactlyTheThresholdDrops) {
  const Model random = random_model({.seed = 18, .gate_recent = 3, .window = 0});
  SCOPED_TRACE(describe(random));
  Config config = random.config();
  config.gate->threshold = 0.25f;
  Weights weights = random.weights();
  for (LayerWeights& w : weights.layers) {
    const std::vector<float> zeros(w.drop_gate.wq.rows() * w.drop_gate.wq.cols());
    w.drop_gate.wq = Matrix::encode(Format::f32, {zeros.data(), w.drop_gate.wq.rows(), w.drop_gate.wq.cols()});
    w.drop_gate.bias = {0.75f};
  }
  const Model model = Model::create(config, weights);
  const auto tokens = random_tokens(18, config, 40);
  for (const Feeding feeding : {Feeding{64}, Feeding{Feeding::decode}}) {
    const Fed at = feed(model, tokens, feeding, {.policy = prune::learned_gate({.tau = 0.5f})});
    for (const std::size_t rows : at.stats.live_rows) EXPECT_EQ(rows, 3u);
    const Fed below = feed(model, tokens, feeding, {.policy = prune::learned_gate({.tau = 0.499f})});
    EXPECT_EQ(below.stats.dropped_rows, 0u);
  }
}

TEST(ReferenceTest, EveryInstructionSetEqualsTheMaskedForward) {
  struct Restore {
    std::string before{isa()};
    ~Restore() { use_isa(before); }
  } restore;
  for (const std::string_view set : isas()) {
    SCOPED_TRACE(set);
    use_isa(set);
    check_random(6, 1000, {}, 1e-5);
  }
}

}  // namespace
}  // namespace pith::testing
