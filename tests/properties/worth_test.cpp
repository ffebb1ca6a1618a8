// SPDX-License-Identifier: MIT
// Gates on a token's own state: their numbers, their files, and that what they drop is what the equations drop.
#include "pith/prune/worth.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pith/prune/combinators.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"
#include "reference/worth.hpp"
#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/decided_models.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/random_model.hpp"
#include "support/random_worth.hpp"
#include "support/turns.hpp"

namespace pith::testing {
namespace {

using namespace prune;

constexpr std::size_t length = 90;
constexpr WorthKind kinds[] = {WorthKind::linear, WorthKind::mlp, WorthKind::sink};

Matrix matrix(std::size_t rows, std::size_t cols, const std::vector<float>& values) {
  return Matrix::encode(Format::f32, {values.data(), rows, cols});
}

/// What a policy writes into the column of a lone layer whose one token has this input.
std::vector<float> written(const Worth& gate, const std::vector<float>& x, std::size_t heads) {
  const KvLayouts layouts{PageLayout({.heads = 1, .head_dim = 2, .evidence = worth_column})};
  PagePool pool(0);
  KvCache cache(layouts, pool, 1, heads, 0, DropLog::Keep::counts);
  cache.append(0, 0, never);
  Scratch scratch;
  const Moment moment{
      .n_layers = 1, .first = 0, .next = 1, .prompt_end = 1, .input = {x.data(), 1, x.size()}, .scratch = &scratch};
  worth_gate({{}, {gate}}).before_attention(cache.layer(0), moment);
  std::vector<float> out;
  for (const Lane& lane : cache.lanes(0)) out.push_back(lane.evidence(lane.slot(worth_column), 0));
  return out;
}

TEST(WorthTest, OfOneLayer) {
  const LinearWorth gate{matrix(2, 2, {1, 2, -3, 0.5f}), {0.25f, -1}};
  EXPECT_EQ(written(gate, {2, -1}, 2), (std::vector<float>{0.25f, -7.5f}));
}

TEST(WorthTest, OfTwoLayersIsGeluBetween) {
  // Hidden numbers 1 and -2; gelu(1) = .841345, gelu(-2) = -.0455.
  const MlpWorth gate{{matrix(2, 1, {1, -1}), {0, -1}}, {matrix(1, 2, {2, 10}), {0.5f}}};
  EXPECT_NEAR(written(gate, {1}, 1)[0], 0.5 + 2 * 0.841345 - 10 * 0.0455003, 1e-5);
}

// Two groups, one sink, dim 2; norms bring every vector to length sqrt 2.
TEST(WorthTest, OfAKeyBesideSinks) {
  const SinkWorth gate{.queries = {matrix(4, 1, {1, 0, 0, 1}), {0, 0, 0, 0}},
                       .keys = matrix(2, 1, {1, 0}),
                       .q_norm = {1, 1},
                       .k_norm = {1, 1},
                       .sinks = {0, 1},
                       .bias = {0.5f, 0}};
  // k = q_0 = (r, 0), q_1 = (0, r) with r = sqrt 2: logits 2 / r + .5 and 0; the sink's are 0 and r / r.
  const double root = std::sqrt(2.0);
  const double first = 1 / (1 + std::exp(0 - (2 / root + 0.5))), second = 1 / (1 + std::exp(1.0 - 0));
  EXPECT_NEAR(written(gate, {3}, 1)[0], (first + second) / 2, 1e-5);
}

void expect_same(const reference::Result& expected, const Fed& fed, double tolerance) {
  EXPECT_LT(relative_error(fed.logits, expected.logits), tolerance);
  for (std::size_t layer = 0; layer < expected.drop_at.size(); ++layer)
    for (std::size_t head = 0; head < expected.drop_at[layer].size(); ++head)
      EXPECT_EQ(fed.drop_at[layer][head], expected.drop_at[layer][head]) << "layer " << layer << ", kv-head " << head;
}

struct Rounding {
  KvFormat kv = KvFormat::f32;
  double tolerance = 1e-5, margin = 1e-5;
};

void check(WorthKind kind, Prefill prefill, ModelSpec spec, int cases, const Rounding& rounding = {}) {
  const std::vector<reference::Prompt> prompts = {{0, 40}, {52, 75}};
  const WorthGateOptions options{.threshold = middle(kind), .window = 5, .sinks = 2};
  spec.gate = ModelSpec::Gate::no;
  for_decided_models(spec, {.cases = cases}, [&](const Model& model, std::uint64_t seed) {
    const auto tokens = random_tokens(seed, model.config(), length);
    const WorthGates gates = random_worth(seed, model.config(), kind);
    reference::WorthSight sight(gates, options, prefill == Prefill::dense ? prompts : std::vector<reference::Prompt>());
    const auto expected = reference::forward(model.config(), model.weights(), tokens,
                                             {.tau = std::nullopt, .visibility = &sight, .kv = rounding.kv});
    if (sight.min_margin() < rounding.margin || std::ranges::min(expected.min_margin) < 2e-5) return false;
    EXPECT_LT(expected.mean_kept, 0.9);
    EXPECT_GT(expected.mean_kept, 0.1);
    for (const int chunk : {256, 17, 1}) {
      SCOPED_TRACE("chunks of " + std::to_string(chunk));
      const AnyPolicy policy = worth_gate(gates, options, prefill);
      expect_same(expected, feed_turns(model, tokens, prompts, {.policy = policy, .kv = rounding.kv, .chunk = chunk}),
                  rounding.tolerance);
    }
    return true;
  });
}

TEST(WorthTest, EvictingEqualsMasking) {
  for (const WorthKind kind : kinds)
    for (const Prefill prefill : {Prefill::dense, Prefill::sparse}) {
      SCOPED_TRACE(std::to_string(static_cast<int>(kind)) + (prefill == Prefill::dense ? " dense" : " sparse"));
      check(kind, prefill, {.window = 0}, 4);
    }
}

TEST(WorthTest, EvictingEqualsMaskingInEveryArchitecture) {
  for (const Architecture architecture : architectures())
    check(WorthKind::mlp, Prefill::dense, {.architecture = architecture}, 1);
}

TEST(WorthTest, EvictingEqualsMaskingInRoundedCaches) {
  check(WorthKind::linear, Prefill::sparse, {.window = 0}, 2, {KvFormat::f16, 2e-3, 5e-4});
  // The first layer's gate does not see what is cached.
  check(WorthKind::mlp, Prefill::dense, {.head_dim = 32, .n_layers = 1, .window = 0}, 2, {KvFormat::q8_0, 2e-2});
}

TEST(WorthTest, HigherThresholdsKeepLess) {
  const Model model = random_model({.seed = 4, .n_layers = 2, .window = 0});
  const auto tokens = random_tokens(4, model.config(), length);
  const WorthGates gates = random_worth(4, model.config(), WorthKind::linear);
  std::uint64_t before = 0;
  for (const float threshold : {-100.0f, -1.0f, -0.3f, 0.3f, 1.0f, 100.0f}) {
    const Fed fed = feed(model, tokens, {32}, {.policy = worth_gate(gates, {threshold, 4, 1}, Prefill::sparse)});
    EXPECT_GE(fed.stats.dropped_rows, before) << threshold;
    before = fed.stats.dropped_rows;
    const std::size_t lanes = 2 * static_cast<std::size_t>(model.config().n_kv_heads);
    if (threshold == -100) {
      EXPECT_EQ(before, 0u);
    }
    // All but the sink and what the next token still sees.
    if (threshold == 100) {
      EXPECT_EQ(before, lanes * (length - 1 - 4));
    }
  }
}

TEST(WorthTest, OfSomeHeadsIsTheirOwn) {
  std::uint64_t seed = 34;
  const auto make = [&] { return random_model({.seed = seed, .n_layers = 2, .window = 0}); };
  while (make().config().n_kv_heads < 3) ++seed;
  const Model model = make();
  const auto tokens = random_tokens(seed, model.config(), 60);
  const WorthGates gates = random_worth(seed, model.config(), WorthKind::linear);
  const AnyPolicy policy = worth_gate(gates, {0, 4, 1}, Prefill::sparse);
  // In the first layer, whose input is the same, they drop what they would drop together with the others.
  const Fed all = feed(model, tokens, {32}, {.policy = policy});
  const Fed some = feed(model, tokens, {32}, {.policy = for_heads({1, 2}, policy)});
  EXPECT_EQ(some.drop_at[0][1], all.drop_at[0][1]);
  EXPECT_EQ(some.drop_at[0][2], all.drop_at[0][2]);
  EXPECT_NE(some.drop_at[0][1], some.drop_at[0][2]);
}

// --- Files -----------------------------------------------------------------------------------------------------------

class WorthFileTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const test::SafetensorsWriter& writer) {
    return folder_.write("gates.safetensors", writer.bytes());
  }
  test::TempFolder folder_;
};

test::SafetensorsWriter linear_file(int layers = 2) {
  test::SafetensorsWriter file;
  for (int i = 0; i < layers; ++i)
    file.f32("layers." + std::to_string(i) + ".weight", {3, 4}).f32("layers." + std::to_string(i) + ".bias", {3});
  return file;
}

TEST_F(WorthFileTest, OfOneLayerIsRead) {
  const WorthGates gates = WorthGates::read(write(linear_file()));
  ASSERT_EQ(gates.layers.size(), 2u);
  EXPECT_EQ(gates.kv_heads(), 3u);
  EXPECT_EQ(gates.d_model(), 4u);
  const auto& gate = std::get<LinearWorth>(gates.layers[1]);
  std::vector<float> row(4);
  gate.weight.row(2, row);
  EXPECT_EQ(row, (std::vector<float>{8, 9, 10, 11}));
  EXPECT_EQ(gate.bias, (std::vector<float>{0, 1, 2}));
}

TEST_F(WorthFileTest, OfTwoLayersIsReadFromAFolder) {
  folder_.write("model.safetensors", test::SafetensorsWriter()
                                         .f32("layers.0.0.weight", {5, 4})
                                         .f32("layers.0.0.bias", {5})
                                         .f32("layers.0.2.weight", {3, 5})
                                         .f32("layers.0.2.bias", {3})
                                         .bytes());
  const WorthGates gates = WorthGates::read(folder_.path());
  EXPECT_EQ(gates.file, folder_.path().string());
  EXPECT_EQ(std::get<MlpWorth>(gates.layers.at(0)).hidden.weight.rows(), 5u);
  EXPECT_EQ(gates.kv_heads(), 3u);
  EXPECT_EQ(gates.d_model(), 4u);
}

TEST_F(WorthFileTest, OfSinksIsRead) {
  const auto path = write(test::SafetensorsWriter()
                              .f32("layers.0.q_proj.weight", {12, 4})  // 3 heads, 2 groups, dim 2
                              .f32("layers.0.q_proj.bias", {12})
                              .f32("layers.0.k_proj.weight", {6, 4})
                              .f32("layers.0.q_norm.weight", {2})
                              .f32("layers.0.k_norm.weight", {2})
                              .f32("layers.0.k_base", {3, 1, 5, 2})
                              .f32("layers.0.b", {3, 1, 2}));
  const auto gate = std::get<SinkWorth>(WorthGates::read(path).layers.at(0));
  EXPECT_EQ(gate.sinks.size(), 30u);
  EXPECT_EQ(gate.bias, (std::vector<float>{0, 1, 2, 3, 4, 5}));
}

TEST_F(WorthFileTest, ASpecNamesIt) {
  const auto path = write(linear_file()).string();
  const AnyPolicy policy = parse("worth_gate(file=" + path + ",threshold=-3,prefill=sparse)");
  EXPECT_EQ(policy.describe(), "worth_gate(file=" + path + ",prefill=sparse,threshold=-3,window=128,sinks=4)");
  EXPECT_EQ(parse(policy.describe()).describe(), policy.describe());
  EXPECT_TRUE(policy.needs().lane_per_head);
  EXPECT_TRUE(policy.needs().evidence.has(worth_column));
  test::expect_error(ErrorCode::argument, {"worth_gate(prefill=)", "dense or sparse", "'lazy'"},
                     [&] { parse("worth_gate(file=" + path + ",prefill=lazy)"); });
  test::expect_error(ErrorCode::argument, {"worth_gate", "file="}, [] { parse("worth_gate"); });
  test::expect_error(ErrorCode::argument, {"worth_gate(window=)", "-1"},
                     [&] { parse("worth_gate(file=" + path + ",window=-1)"); });
  test::expect_error(ErrorCode::file, {"nowhere"}, [] { parse("worth_gate(file=nowhere)"); });
}

TEST_F(WorthFileTest, OfAnotherModelIsRefusedByName) {
  const Model model = random_model({.seed = 2, .n_layers = 3});
  const auto path = write(linear_file()).string();
  const AnyPolicy policy = parse("for_layers(layers=0,worth_gate(file=" + path + "))");
  test::expect_error(
      ErrorCode::model,
      {path, "3 layers", std::to_string(model.config().n_kv_heads) + " kv-heads", "2 layers of 3 kv-heads and width 4"},
      [&] { Session session(model, {.policy = policy}); });
}

TEST_F(WorthFileTest, WhatDoesNotFitIsRefused) {
  const auto refused = [&](ErrorCode code, const std::vector<std::string>& parts, const test::SafetensorsWriter& file) {
    const auto path = write(file);
    std::vector<std::string> all = parts;
    all.push_back(path.string());
    test::expect_error(code, all, [&] { WorthGates::read(path); });
  };
  refused(ErrorCode::model, {"layers.0.weight", "none"}, test::SafetensorsWriter().f32("other", {1}));
  refused(ErrorCode::model, {"\"layers.0.bias\"", "no such tensor"},
          test::SafetensorsWriter().f32("layers.0.weight", {3, 4}));
  refused(ErrorCode::model, {"\"layers.0.bias\"", "[3]", "[2]"},
          test::SafetensorsWriter().f32("layers.0.weight", {3, 4}).f32("layers.0.bias", {2}));
  refused(ErrorCode::model, {"2 sides", "[3]"},
          test::SafetensorsWriter().f32("layers.0.weight", {3}).f32("layers.0.bias", {3}));
  refused(ErrorCode::model, {"layers.1", "3 kv-heads on width 4", "2 and 4"},
          linear_file(1).f32("layers.1.weight", {2, 4}).f32("layers.1.bias", {2}));
  refused(ErrorCode::unsupported, {"\"stray\""}, linear_file().f32("stray", {1}));
  refused(ErrorCode::unsupported, {"\"layers.0.weight\"", "F32, F16 or BF16", "I8"},
          test::SafetensorsWriter().add("layers.0.weight", "I8", {1, 2}, "ab").f32("layers.0.bias", {1}));
}

TEST_F(WorthFileTest, InSixteenBitsIsReadAsItIs) {
  const std::vector<std::uint16_t> bf16 = {0x3f80, 0xc000};  // 1, -2
  const auto path = write(test::SafetensorsWriter()
                              .add("layers.0.weight", "BF16", {1, 2}, test::raw(bf16))
                              .add("layers.0.bias", "BF16", {1}, test::raw(std::vector<std::uint16_t>{0x4040})));
  EXPECT_EQ(written(WorthGates::read(path).layers[0], {4, 1}, 1), (std::vector<float>{5}));
}

}  // namespace
}  // namespace pith::testing
