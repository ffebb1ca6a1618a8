// SPDX-License-Identifier: MIT
// What a policy may do with the rows it holds: read keys and values, keep columns of its own, but not touch what the
// caller keeps. And what the cache does with numbers that it cannot hold.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "pith/prune/methods.hpp"
#include "reference/decoder.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/kv.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

// --- Pins ------------------------------------------------------------------------------------------------------------

/// Does to every row what it can think of to be rid of it.
struct Destroyer {
  prune::Needs needs() const { return {.lane_per_head = per_head}; }
  void before_attention(const KvLayer& layer, const prune::Moment& moment) const {
    for (const Lane& lane : layer.lanes())
      for (std::size_t p = 0; p < lane.pages(); ++p)
        for (std::size_t i = 0; i < lane.page(p).rows(); ++i) {
          const Row row = lane.page(p).row(i);
          if (row.born() >= moment.first) continue;
          row.close(moment.first);
          row.reopen(0);
          lane.page(p).set_until(i, moment.first);
          lane.close(p * PageLayout::capacity + i, 0);
        }
  }
  void after_attention(const KvLayer& layer, const prune::Moment& moment) const {
    for (std::size_t l = 0; l < layer.lanes().size(); ++l) {
      const Lane& lane = layer.lanes()[l];
      for (std::size_t row = lane.rows(); row-- > 0;)
        if (lane.born(row) + 1 < moment.next) layer.evict(l, row, moment.next);
    }
  }
  bool per_head = false;
};

TEST(RowsTest, ThatTheCallerKeepsNoPolicyCanBreak) {
  const Model model = random_model({.seed = 4, .n_layers = 2, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(4, model.config(), 80);
  const std::vector<Position> kept = {0, 3, 17, 31, 32, 39};
  for (const bool per_head : {false, true}) {
    for (const bool with_gate : {false, true}) {
      const prune::AnyPolicy destroyer = with_gate
                                             ? prune::chain(prune::learned_gate({.tau = INFINITY}), Destroyer{per_head})
                                             : prune::AnyPolicy(Destroyer{per_head});
      Session session(model, {.policy = destroyer, .threads = 1, .chunk = 1, .record_drops = true});
      std::set<Position> there;
      const SequenceId sequence = session.add(std::span(tokens).first(1));
      session.step();
      session.keep(sequence, std::vector<Position>{0});
      for (std::size_t t = 1; t < tokens.size(); ++t) {
        session.push(sequence, tokens[t]);
        session.step();
        if (std::ranges::count(kept, static_cast<Position>(t)) > 0)
          session.keep(sequence, std::vector<Position>{static_cast<Position>(t)});
        if (t == 50) {
          const SequenceId fork = session.fork(sequence);
          session.push(fork, tokens[0]);
          session.step();
          for (const auto& layer : session.drop_at(fork))
            for (const auto& lane : layer) EXPECT_EQ(lane[17], -1) << "a fork keeps it, too";
          session.finish(fork);
        }
      }
      for (const auto& layer : session.drop_at(sequence))
        for (const auto& lane : layer)
          for (std::size_t j = 0; j + 2 < tokens.size(); ++j)
            EXPECT_EQ(lane[j]<0, std::ranges::count(kept, static_cast<Position>(j))> 0) << "token " << j;
      session.forget(sequence, 0, std::vector<Position>{17, 31});
      session.push(sequence, tokens[0]);
      session.step();
      const auto drops = session.drop_at(sequence);
      for (std::size_t layer = 0; layer < 2; ++layer)
        for (const auto& lane : drops[layer]) {
          EXPECT_EQ(lane[17], layer == 0 ? 80 : -1) << "the caller's own word is the last";
          EXPECT_EQ(lane[32], -1);
        }
    }
  }
}

TEST(RowsTest, ThatTheCallerKeepsEndWithTheModelsOwnWindow) {
  constexpr int window = 20;
  const Model model = random_model({.seed = 6, .architecture = Architecture::mistral, .window = window});
  SCOPED_TRACE(describe(model));
  ASSERT_EQ(model.config().layers[0].window, window);
  const auto tokens = random_tokens(6, model.config(), 60);
  Session session(model, {.policy = prune::streaming({.sinks = 0, .recent = 5}), .threads = 1, .record_drops = true});
  const SequenceId sequence = session.add(std::span(tokens).first(10));
  session.step();
  session.keep(sequence, std::vector<Position>{7});
  session.prompt(sequence, std::span(tokens).subspan(10));
  session.step();
  const auto drops = session.drop_at(sequence);
  EXPECT_EQ(drops[0][0][7], 7 + window);
  EXPECT_EQ(drops[0][0][8], 8 + 5);
}

// --- Keys and values -------------------------------------------------------------------------------------------------

TEST(RowsTest, CanBeJudgedByTheirKeys) {
  // In a lane of its own: keys (1,0), (1,0), (0,1); the anchor is (2,1)/3.
  const KvLayouts layouts{PageLayout({.heads = 1, .head_dim = 2})};
  PagePool pool(0);
  KvCache cache(layouts, pool, 1, 1, 0, DropLog::Keep::history);
  for (Position born = 0; born < 3; ++born) {
    cache.append(0, born, never);
    const std::vector<float> key = born < 2 ? std::vector<float>{1, 0} : std::vector<float>{0, 1};
    cache.lanes(0)[0].row(static_cast<std::size_t>(born)).set_key(0, key);
  }
  prune::Scratch scratch;
  const prune::Moment moment{.n_layers = 1, .first = 2, .next = 3, .scratch = &scratch};
  std::vector<float> scores(3);
  prune::KeyDifference{}.score(cache.layer(0), 0, moment, scores);
  EXPECT_NEAR(scores[0], -0.894, 1e-3);
  EXPECT_NEAR(scores[1], -0.894, 1e-3);
  EXPECT_NEAR(scores[2], -0.447, 1e-3);
  prune::Evict{prune::KeyDifference{}, prune::Rows{2}}.after_attention(cache.layer(0), moment);
  EXPECT_EQ(cache.log().until(0, 0, 0), 3) << "of two alike the later one stays";
  EXPECT_EQ(cache.rows(0), 2u);
}

/// Values are folded into the nearest row that stays, key by key; keys stay as they are.
struct MergeValues {
  void operator()(const prune::Cut& cut) const {
    const Lane& lane = cut.rows();
    const std::size_t dim = lane.layout().shape().head_dim;
    std::vector<float> key(dim), other(dim), value(dim), into(dim);
    for (const std::size_t victim : cut.victims) {
      std::size_t nearest = victim;
      float best = -INFINITY;
      lane.row(victim).key(0, key);
      for (std::size_t row = 0; row < lane.rows(); ++row) {
        if (std::ranges::count(cut.victims, row) > 0) continue;
        lane.row(row).key(0, other);
        float product = 0;
        for (std::size_t d = 0; d < dim; ++d) product += key[d] * other[d];
        if (product > best) best = product, nearest = row;
      }
      lane.row(victim).value(0, value);
      lane.row(nearest).value(0, into);
      for (std::size_t d = 0; d < dim; ++d) into[d] += weight * (value[d] - into[d]);
      lane.row(nearest).set_value(0, into);
      worst_victim = std::max(worst_victim, cut.scores[victim]);
    }
    for (const std::size_t victim : cut.victims) cut.layer.evict(cut.lane, victim, cut.moment.next);
  }
  float weight = 0.5f;
  inline static float worst_victim = -INFINITY;
};

TEST(RowsTest, CanBeMergedIntoOthers) {
  const Model model = random_model({.seed = 8, .head_dim = 32, .n_layers = 2, .window = 0});
  SCOPED_TRACE(describe(model));
  const auto tokens = random_tokens(8, model.config(), 70);
  const auto merging = [](float weight) {
    return prune::per_head(prune::Evict{prune::attention_mass, prune::Rows{20}, prune::Recent{5}, MergeValues{weight}});
  };
  for (const KvPair& kv : kv_pairs()) {
    SCOPED_TRACE(name(kv));
    const Fed dropped = feed(model, tokens, {10}, {.policy = prune::h2o({.rows = 20, .recent = 5}), .kv = kv});
    const Fed none = feed(model, tokens, {10}, {.policy = merging(0), .kv = kv});
    const Fed half = feed(model, tokens, {10}, {.policy = merging(0.5f), .kv = kv});
    // Stored again as they were read, blocks come out as they were, but for scales that single precision rounds anew.
    EXPECT_LT(relative_error(none.logits, dropped.logits), kv.values == KvFormat::q8_0 ? 1e-2 : 1e-6);
    EXPECT_GT(relative_error(half.logits, dropped.logits), 1e-3) << "the values have changed";
    EXPECT_GE(MergeValues::worst_victim, 0);
    EXPECT_EQ(half.stats.live_rows, dropped.stats.live_rows);
  }
}

// --- Columns ---------------------------------------------------------------------------------------------------------

/// Compares the column with the values that the row holds.
struct ChecksNorms {
  prune::Needs needs() const { return {.lane_per_head = per_head, .evidence = column::value_norm}; }
  void before_attention(const KvLayer& layer, const prune::Moment&) const {
    for (const Lane& lane : layer.lanes()) {
      const auto& shape = lane.layout().shape();
      const Slot norm = lane.slot(column::value_norm);
      std::vector<float> value(shape.head_dim);
      for (std::size_t row = 0; row < lane.rows(); ++row) {
        double square = 0;
        for (std::size_t h = 0; h < shape.heads; ++h) {
          lane.row(row).value(h, value);
          for (const float x : value) square += static_cast<double>(x) * x;
        }
        EXPECT_NEAR(lane.evidence(norm, row), std::sqrt(square), tolerance * std::sqrt(square));
        ++checked;
      }
    }
  }
  bool per_head = false;
  double tolerance = 0;
  inline static std::size_t checked = 0;
};

TEST(RowsTest, CarryTheNormOfTheirValues) {
  const Model model = random_model({.seed = 9, .head_dim = 32, .n_layers = 2});
  const auto tokens = random_tokens(9, model.config(), 60);
  const std::map<KvFormat, double> rounding = {{KvFormat::f32, 1e-5},
                                               {KvFormat::f16, 1e-3},
                                               {KvFormat::bf16, 8e-3},
                                               {KvFormat::q8_0, 2e-2},
                                               {KvFormat::q4_0, 0.2}};
  for (const auto& [kv, tolerance] : rounding)
    for (const bool per_head : {false, true}) {
      SCOPED_TRACE(name(kv));
      ChecksNorms::checked = 0;
      // Rows that move take it along.
      const prune::Evict evict{prune::attention_mass, prune::Rows{30}, prune::Recent{4}};
      feed(model, tokens, {7}, {.policy = prune::chain(evict, ChecksNorms{per_head, tolerance}), .kv = kv});
      EXPECT_GT(ChecksNorms::checked, 400u);
    }
}

/// A column of the policy's own: how many passes a row has seen.
struct CountsPasses {
  static constexpr Column passes{"passes"};

  prune::Needs needs() const { return {.evidence = passes}; }
  void after_attention(const KvLayer& layer, const prune::Moment& moment) const {
    for (const Lane& lane : layer.lanes()) {
      const Slot slot = lane.slot(passes);
      for (std::size_t row = 0; row < lane.rows(); ++row) {
        const float so_far = lane.evidence(slot, row) += 1;
        EXPECT_EQ(so_far, static_cast<float>(moment.next - lane.born(row)));
      }
    }
  }
};

TEST(RowsTest, CarryColumnsThatTheLibraryDoesNotKnow) {
  const Model model = random_model({.seed = 10, .n_layers = 2});
  const auto tokens = random_tokens(10, model.config(), 60);
  const Fed counted =
      feed(model, tokens, {1}, {.policy = prune::chain(prune::h2o({.rows = 20, .recent = 4}), CountsPasses{})});
  const Fed plain = feed(model, tokens, {1}, {.policy = prune::h2o({.rows = 20, .recent = 4})});
  EXPECT_EQ(counted.drop_at, plain.drop_at);
  EXPECT_TRUE(same_bits(counted.logits, plain.logits));
  EXPECT_GT(counted.stats.bytes_used, plain.stats.bytes_used) << "who asks, pays";
}

// --- Numbers beyond the cache's format -------------------------------------------------------------------------------

/// The model with the keys, or the values, of one layer so much larger.
Model inflated(const Model& model, std::size_t layer, Linear LayerWeights::*which, float factor) {
  Weights w = model.weights();
  Linear& linear = w.layers[layer].*which;
  std::vector<float> values(linear.weight.rows() * linear.weight.cols());
  for (std::size_t r = 0; r < linear.weight.rows(); ++r)
    linear.weight.row(r, {&values[r * linear.weight.cols()], linear.weight.cols()});
  for (float& value : values) value *= factor;
  linear.weight = Matrix::encode(Format::f32, {values.data(), linear.weight.rows(), linear.weight.cols()});
  return Model::create(model.config(), std::move(w));
}

std::string refusal(Session& session) {
  try {
    while (!session.idle()) session.step();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    return error.what();
  }
  return "";
}

TEST(RowsTest, ThatTheCacheCannotHoldAreRefusedByLayerAndFormat) {
  const Model small = random_model({.seed = 12, .architecture = Architecture::llama, .head_dim = 32, .n_layers = 3});
  const auto tokens = random_tokens(12, small.config(), 20);
  struct Case {
    KvFormat kv;
    float factor;
    bool fits;
  };
  for (const auto& [which, what] : {std::pair{&LayerWeights::wk, "keys"}, std::pair{&LayerWeights::wv, "values"}})
    for (const Case& one :
         {Case{KvFormat::f16, 1e2f, true}, Case{KvFormat::f16, 1e6f, false}, Case{KvFormat::q8_0, 1e4f, true},
          Case{KvFormat::q8_0, 1e9f, false}, Case{KvFormat::q4_0, 1e3f, true}, Case{KvFormat::q4_0, 1e8f, false},
          Case{KvFormat::bf16, 1e6f, true}, Case{KvFormat::f32, 1e6f, true}}) {
      SCOPED_TRACE(std::string(what) + " in " + std::string(name(one.kv)) + " times " + std::to_string(one.factor));
      const Model model = inflated(small, 1, which, one.factor);
      for (const std::size_t prompt : {std::size_t{1}, tokens.size()}) {
        Session session(model, {.policy = prune::none(), .kv = one.kv, .threads = 1});
        const SequenceId sequence = session.add(std::span(tokens).first(prompt));
        const std::string error = refusal(session);
        EXPECT_EQ(error.empty(), one.fits) << error;
        if (one.fits) continue;
        for (const std::string& part : std::vector<std::string>{"layer 1", what, std::string(name(one.kv)), "f32"})
          EXPECT_NE(error.find(part), std::string::npos) << error << " does not say " << part;
        EXPECT_EQ(refusal(session), error) << "and again, with nothing changed";
        session.finish(sequence);
        EXPECT_TRUE(session.idle());
        EXPECT_EQ(session.stats().bytes_used, 0u);
      }
    }
}

}  // namespace
}  // namespace pith::testing
