// SPDX-License-Identifier: MIT
// A policy that keeps everything is no policy; a gate at its extremes keeps everything, or nothing.
#include <gtest/gtest.h>

#include <limits>

#include "pith/prune/methods.hpp"
#include "reference/decoder.hpp"
#include "support/compare.hpp"
#include "support/feed.hpp"
#include "support/kv.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct Keeper {
  std::string name;
  prune::AnyPolicy policy;
};

std::vector<Keeper> keepers() {
  using namespace prune;
  std::vector<Keeper> all;
  all.push_back({"gate", learned_gate({.tau = -infinity})});
  all.push_back({"streaming", streaming({.sinks = 0, .recent = 1000})});
  all.push_back({"streaming of sinks", streaming({.sinks = 1000, .recent = 1})});
  all.push_back({"h2o", h2o({.rows = 1000, .recent = 0})});
  all.push_back({"h2o of recent", per_head(Evict{attention_mass, Rows{1}, Recent{1000}})});
  all.push_back({"snapkv", snapkv({.rows = 1000})});
  all.push_back({"think", think({.channels = 1})});
  all.push_back({"all", chain(learned_gate({.tau = -infinity}), streaming({.sinks = 0, .recent = 1000}),
                              h2o({.rows = 1000, .recent = 0}), snapkv({.rows = 1000}))});
  return all;
}

void expect_bitwise_dense(const Model& model, std::span<const Token> tokens, const KvPair& kv) {
  for (const Feeding feeding : {Feeding{256}, Feeding{19}, Feeding{Feeding::decode}}) {
    const Fed dense = feed(model, tokens, feeding, {.policy = prune::none(), .kv = kv});
    for (const Keeper& keeper : keepers()) {
      SCOPED_TRACE(keeper.name + ", " + feeding.name() + ", cache in " + name(kv));
      const Fed kept = feed(model, tokens, feeding, {.policy = keeper.policy, .kv = kv});
      EXPECT_TRUE(same_bits(kept.logits, dense.logits));
      EXPECT_EQ(kept.stats.dropped_rows, 0u);
    }
  }
}

TEST(KeepEverythingTest, IsNoPolicyBitwise) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const Model model = random_model({.seed = seed, .window = 0});
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(model));
    expect_bitwise_dense(model, random_tokens(seed, model.config(), 75), KvFormat::f32);
  }
}

TEST(KeepEverythingTest, IsNoPolicyBitwiseInEveryCacheFormat) {
  for (const KvPair& kv : kv_pairs()) {
    const Model model = random_model({.seed = 6, .format = Format::q8_0, .head_dim = 32, .window = 0});
    SCOPED_TRACE(describe(model));
    expect_bitwise_dense(model, random_tokens(6, model.config(), 75), kv);
  }
}

TEST(KeepEverythingTest, TauOfMinusInfinityIsTheDenseModel) {
  for (std::uint64_t seed = 11; seed <= 13; ++seed) {
    const Model model = random_model({.seed = seed});
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(model));
    const auto tokens = random_tokens(seed, model.config(), 60);
    const auto dense = reference::forward(model.config(), model.weights(), tokens, {.tau = std::nullopt});
    const Fed fed = feed(model, tokens, {16}, {.policy = prune::learned_gate({.tau = -infinity})});
    EXPECT_LT(relative_error(fed.logits, dense.logits), 1e-5);
  }
}

/// Sees what a gate must spare, and no other tokens.
class Spared : public reference::Visibility {
 public:
  explicit Spared(const DropGateConfig& gate) : gate_(gate) {}
  bool sees(int /*layer*/, int /*kv_head*/, int n, int j) const override {
    return j < gate_.sinks || n < j + gate_.recent;
  }

 private:
  DropGateConfig gate_;
};

TEST(KeepEverythingTest, TauOfInfinityLeavesATokenOnlyItselfTheSinksAndWhatIsTooRecentToDrop) {
  for (const int recent : {1, 5}) {
    const Model model = random_model({.seed = 21, .gate_recent = recent, .window = 0});
    const DropGateConfig& gate = *model.config().gate;
    ASSERT_GT(gate.sinks, 0);
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(21, model.config(), 60);
    Spared spared(gate);
    const auto expected =
        reference::forward(model.config(), model.weights(), tokens, {.tau = std::nullopt, .visibility = &spared});
    for (const Feeding feeding : {Feeding{256}, Feeding{7}, Feeding{Feeding::decode}}) {
      SCOPED_TRACE(feeding.name());
      const Fed fed = feed(model, tokens, feeding, {.policy = prune::learned_gate({.tau = infinity})});
      EXPECT_LT(relative_error(fed.logits, expected.logits), 1e-5);
      for (const std::size_t rows : fed.stats.live_rows) EXPECT_EQ(rows, static_cast<std::size_t>(gate.sinks + recent));
    }
  }
}

TEST(KeepEverythingTest, AScoreThatIsExactlyTheCutDrops) {
  const Model model = random_model({.seed = 22, .window = 0});
  SCOPED_TRACE(describe(model));
  const DropGateConfig& gate = *model.config().gate;
  Weights weights = model.weights();
  for (LayerWeights& layer : weights.layers) {
    const Matrix& wq = layer.drop_gate.wq;
    const std::vector<float> zeros(wq.rows() * wq.cols());
    layer.drop_gate.wq = Matrix::encode(Format::f32, {zeros.data(), wq.rows(), wq.cols()});
    std::ranges::fill(layer.drop_gate.bias, gate.threshold + 0.5f);
  }
  const Model even = Model::create(model.config(), std::move(weights));
  const auto tokens = random_tokens(22, model.config(), 60);
  for (const Feeding feeding : {Feeding{256}, Feeding{7}, Feeding{Feeding::decode}}) {
    SCOPED_TRACE(feeding.name());
    const float cut = (gate.threshold + 0.5f) - gate.threshold;
    const auto rows = [&](float tau) {
      return feed(even, tokens, feeding, {.policy = prune::learned_gate({.tau = tau})}).stats.live_rows;
    };
    for (const std::size_t n : rows(cut)) EXPECT_EQ(n, static_cast<std::size_t>(gate.sinks + gate.recent));
    for (const std::size_t n : rows(cut - 0.01f)) EXPECT_EQ(n, tokens.size());
  }
}

}  // namespace
}  // namespace pith::testing
