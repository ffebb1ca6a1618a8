// SPDX-License-Identifier: MIT
// Layers that read the keys and values of another (LayerPlan::kv_from): one memory, judged once by what all its readers
// have seen.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "pith/prune/methods.hpp"
#include "pith/quantize.hpp"
#include "reference/decoder.hpp"
#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/kv.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

/// Of four layers, some read the first; the others have their own.
Model shared(std::uint64_t seed, ModelSpec spec = {}) {
  spec.seed = seed;
  spec.n_layers = 4;
  spec.lanes = ModelSpec::Lanes::shared;
  return random_model(spec);
}

std::size_t owners(const Config& config) {
  return static_cast<std::size_t>(
      std::ranges::count_if(config.layers, [](const LayerPlan& plan) { return plan.kv_from < 0; }));
}

/// What was dropped, as a mask.
class Recorded : public reference::Visibility {
 public:
  explicit Recorded(const DropAt& drop_at) : drop_at_(drop_at) {}
  bool sees(int layer, int kv_head, int n, int j) const override {
    const auto& lanes = drop_at_[static_cast<std::size_t>(layer)];
    const int at = lanes[lanes.size() == 1 ? 0 : static_cast<std::size_t>(kv_head)][static_cast<std::size_t>(j)];
    return at < 0 || n < at;
  }

 private:
  const DropAt& drop_at_;
};

TEST(SharedLanes, UnderEveryPolicyEqualTheMaskedForward) {
  for (const std::uint64_t seed : {1u, 2u}) {
    const Model model = shared(seed, {.window = 0});
    SCOPED_TRACE(describe(model));
    ASSERT_LT(owners(model.config()), 4u);
    const auto tokens = random_tokens(seed, model.config(), 70);
    for (const PolicyCase& one : policy_cases(model.config())) {
      // Tokens that leave between layers would be rows that some readers have and others have not.
      if (one.policy.narrows_after(0, 4) || one.policy.narrows_after(1, 4) || one.policy.narrows_after(2, 4)) {
        EXPECT_EQ(error_of([&] { Session session(model, {.policy = one.policy}); }), ErrorCode::unsupported)
            << one.name;
        continue;
      }
      for (const Feeding feeding : {Feeding{64}, Feeding{11}, Feeding{Feeding::decode}}) {
        SCOPED_TRACE(one.name + ", " + feeding.name());
        const Fed fed = feed(model, tokens, feeding, {.policy = one.policy});
        Recorded recorded(fed.drop_at);
        if (one.changes_values) continue;  // of which no mask knows
        const auto expected =
            reference::forward(model.config(), model.weights(), tokens, {.tau = std::nullopt, .visibility = &recorded});
        EXPECT_LT(relative_error(fed.logits, expected.logits), 2e-5);
        for (std::size_t layer = 0; layer < fed.drop_at.size(); ++layer)
          EXPECT_EQ(fed.drop_at[layer], fed.drop_at[model.config().kv_owner(layer)]) << layer;
        if (one.rows && !one.prompts_only) {
          EXPECT_GT(fed.stats.dropped_rows, 0u);
        }
      }
    }
  }
}

TEST(SharedLanes, EqualSinglesInABatchInEveryFormat) {
  const Model model = shared(3, {.head_dim = 32});
  SCOPED_TRACE(describe(model));
  for (const KvPair& kv : kv_pairs())
    for (const prune::AnyPolicy& policy :
         {prune::AnyPolicy(prune::learned_gate()), prune::h2o({.rows = 14, .recent = 4})}) {
      SCOPED_TRACE(name(kv));
      std::vector<Script> scripts;
      for (const std::size_t length : {1u, 40u, 7u, 33u}) {
        const auto tokens = random_tokens(length, model.config(), length + 5);
        const auto split = tokens.begin() + static_cast<std::ptrdiff_t>(length);
        scripts.push_back({{tokens.begin(), split}, {split, tokens.end()}});
      }
      const SessionOptions options{.policy = policy, .kv = kv, .threads = 1, .chunk = 16, .record_drops = true};
      Session together(model, options);
      const auto batch = play(together, scripts, DropLog::Keep::history);
      EXPECT_EQ(together.stats().bytes_used, 0u);
      for (std::size_t i = 0; i < scripts.size(); ++i) {
        Session alone(model, options);
        const auto single = play(alone, {scripts[i]}, DropLog::Keep::history);
        EXPECT_TRUE(same_bits(batch[i].logits, single[0].logits));
        EXPECT_EQ(batch[i].drop_at, single[0].drop_at);
      }
    }
}

TEST(SharedLanes, TakeTheMemoryOfThoseThatFillThem) {
  const Model model = shared(4, {.window = 0, .gate = ModelSpec::Gate::no});
  SCOPED_TRACE(describe(model));
  Config apart = model.config();
  const auto tokens = random_tokens(4, apart, 96);
  Session session(model, {.policy = prune::none(), .threads = 1});
  const SequenceId sequence = session.add(tokens);
  session.step();
  const CacheStats stats = session.stats(sequence);
  const PageLayout layout(
      {.heads = static_cast<std::size_t>(apart.n_kv_heads), .head_dim = static_cast<std::size_t>(apart.head_dim)});
  EXPECT_EQ(stats.bytes_used, 3 * layout.bytes() * owners(apart)) << "pages of 32 rows";
  EXPECT_EQ(stats.bytes_dense, stats.bytes_used);
  EXPECT_EQ(stats.seen_rows, tokens.size() * owners(apart));
  EXPECT_EQ(stats.live_rows, std::vector<std::size_t>(4, tokens.size())) << "what each layer sees";
  const SequenceId fork = session.fork(sequence);
  EXPECT_EQ(session.stats(fork).bytes_used, stats.bytes_used);

  // What leaves one of them leaves all.
  const auto reader = std::ranges::find_if(apart.layers, [](const LayerPlan& plan) { return plan.kv_from >= 0; });
  session.forget(sequence, static_cast<std::size_t>(reader - apart.layers.begin()), std::vector<Position>{5, 6});
  const auto owner = static_cast<std::size_t>(reader->kv_from);
  EXPECT_EQ(session.stats(sequence).live_rows[owner], tokens.size() - 2);
  EXPECT_EQ(session.stats(fork).live_rows[owner], tokens.size());
}

/// Which layers it was asked about, and how much attention their rows had received by then.
struct Listens {
  std::vector<std::size_t>* before;
  std::map<std::size_t, double>* after;

  prune::Needs needs() const { return {.evidence = column::mass}; }
  void before_attention(const KvLayer& layer, const prune::Moment&) const { before->push_back(layer.layer()); }
  void after_attention(const KvLayer& layer, const prune::Moment&) const {
    const Lane& lane = layer.lanes()[0];
    double& sum = (*after)[layer.layer()];
    EXPECT_EQ(sum, 0) << "once a pass";
    for (std::size_t row = 0; row < lane.rows(); ++row) sum += lane.evidence(lane.slot(column::mass), row);
  }
};

TEST(SharedLanes, AreJudgedOnceByTheAttentionOfAllTheirReaders) {
  const Model model = shared(5, {.window = 0, .gate = ModelSpec::Gate::no});
  SCOPED_TRACE(describe(model));
  const Config& c = model.config();
  const auto tokens = random_tokens(5, c, 50);
  std::vector<std::size_t> before;
  std::map<std::size_t, double> after;
  feed(model, tokens, {64}, {.policy = Listens{&before, &after}});
  std::map<std::size_t, double> readers;
  for (std::size_t layer = 0; layer < 4; ++layer) readers[c.kv_owner(layer)] += 1;
  ASSERT_EQ(after.size(), readers.size());
  EXPECT_EQ(before.size(), readers.size());
  for (const auto& [owner, count] : readers)
    EXPECT_NEAR(after.at(owner), count * c.n_heads * static_cast<double>(tokens.size()), 1e-2) << "layer " << owner;
}

TEST(SharedLanes, AreRefusedWhereAPlanMakesNoSense) {
  const Model model = shared(6, {.window = 0, .gate = ModelSpec::Gate::no});
  const auto refused = [&](auto change) {
    Config config = model.config();
    change(config);
    try {
      Weights weights = model.weights();
      Model::create(config, std::move(weights));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::model);
      return std::string(error.what());
    }
    return std::string();
  };
  const auto says = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  ASSERT_EQ(model.config().layers[3].kv_from, 0);
  says(refused([](Config& c) { c.layers[3].kv_from = 3; }), "layer 3: kv_from");
  says(refused([](Config& c) { c.layers[3].kv_from = 7; }), "earlier layer");
  says(refused([](Config& c) { c.layers[2].kv_from = 0, c.layers[3].kv_from = 2; }), "of its own");
  says(refused([](Config& c) { c.layers[3].window = 9; }), "window of 9");
  says(refused([](Config& c) { c.layers[3].kv_from = -1; }), "blk.3.attn_k");  // which its weights lack
}

}  // namespace
}  // namespace pith::testing
