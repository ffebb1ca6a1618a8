// SPDX-License-Identifier: MIT
// The laws that every build has to prove, over shapes that a seed draws: architecture or plans that none has, formats
// of weights, policies under combinators, cache formats, chunks, batches. PITH_LAWS="COUNT SEED" says how many and
// which; tests/laws.sh asks for them.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>

#include "kernels/table.hpp"
#include "reference/eviction.hpp"
#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/kv.hpp"
#include "support/policies.hpp"
#include "support/promises.hpp"
#include "support/random_model.hpp"
#include "support/shuffle.hpp"

namespace pith::testing {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// What laws are tried on.
struct Shape {
  std::uint64_t seed;
  Model model;
  PolicyCase policy;
  KvPair kv;
  int chunk;

  /// Nothing is rounded but sums.
  bool exact() const { return model.weights().head.format() == Format::f32 && kv == KvPair(KvFormat::f32); }
  std::vector<Token> tokens(std::uint64_t which, std::size_t count) const {
    return random_tokens(seed * 64 + which, model.config(), count);
  }
  SessionOptions options() const { return {.policy = policy.policy, .kv = kv}; }
};

Shape draw(std::uint64_t seed) {
  Random random(seed);
  const auto one_in = [&](int n) { return random.integer(1, n) == 1; };
  const auto some = [&](const auto& all) {
    return all[static_cast<std::size_t>(random.integer(0, static_cast<int>(all.size()) - 1))];
  };
  ModelSpec spec{.seed = seed};
  KvPair kv = KvFormat::f32;
  if (one_in(2)) {
    kv = some(kv_pairs());
    spec.head_dim = random.one_of({32, 64, 96});
  }
  if (one_in(3)) spec.format = some(all_formats);
  if (one_in(3)) spec.window = 0;
  if (one_in(4)) spec.gate_scope = GateScope::kv_head;
  if (one_in(5)) spec.dms = ModelSpec::Dms::yes;
  if (one_in(6)) spec.plans = ModelSpec::Plans::any;
  if (one_in(8)) spec.lanes = ModelSpec::Lanes::shared;
  Model model = random_model(spec);
  PolicyCase policy = some(policy_cases(model.config()));
  if (!runs_on(policy, model.config())) policy = policy_cases().front();
  if (one_in(2)) policy = some(combined(policy, model.config()));
  // Lanes that layers share are the first one's to judge, whatever a policy says of the others; and some methods are
  // refused there.
  const bool lists = !policy.heads.empty() && spec.lanes == ModelSpec::Lanes::shared;
  if (lists || error_of([&] { Session(model, {.policy = policy.policy, .kv = kv}); })) policy = policy_cases().front();
  return {seed, std::move(model), std::move(policy), kv, random.one_of({1, 5, 16, 33, 128})};
}

enum class Outcome { holds, fails, undecided, not_asked };

Outcome outcome(bool holds) { return holds ? Outcome::holds : Outcome::fails; }

/// What rounding may turn one time: judgements nearer to each other than it. Other tokens are then judged otherwise.
Outcome unless_undecided(const std::function<bool(std::uint64_t)>& holds) {
  if (holds(0)) return Outcome::holds;
  return holds(1) && holds(2) ? Outcome::undecided : Outcome::fails;
}

bool same(const Fed& a, const Fed& b, double tolerance) {
  return relative_error(a.logits, b.logits) < tolerance && a.drop_at == b.drop_at;
}

// --- The laws --------------------------------------------------------------------------------------------------------

/// (a), and (i) for a strength of -infinity: what keeps everything is no policy, bit for bit.
Outcome keeping_everything(const Shape& s) {
  using namespace prune;
  const auto tokens = s.tokens(1, 60);
  const Feeding feeding{s.chunk};
  const Fed dense = feed(s.model, tokens, feeding, {.policy = none(), .kv = s.kv});
  std::vector<AnyPolicy> keepers = {streaming({.sinks = 0, .recent = 1000}), h2o({.rows = 1000, .recent = 0}),
                                    snapkv({.rows = 1000})};
  if (s.model.config().gate) keepers.push_back(learned_gate({.tau = -infinity}));
  return outcome(std::ranges::all_of(keepers, [&](const AnyPolicy& keeper) {
    return same_bits(feed(s.model, tokens, feeding, {.policy = keeper, .kv = s.kv}).logits, dense.logits);
  }));
}

/// Sees what a session's record of drops says, and nothing else is forgotten.
class Recorded : public reference::Visibility {
 public:
  explicit Recorded(const DropAt& drop_at) : drop_at_(drop_at) {}
  bool sees(int layer, int kv_head, int n, int j) const override {
    const auto& lanes = drop_at_[static_cast<std::size_t>(layer)];
    const auto at = lanes[lanes.size() == 1 ? 0 : static_cast<std::size_t>(kv_head)][static_cast<std::size_t>(j)];
    return at < 0 || n < at;
  }

 private:
  const DropAt& drop_at_;
};

/// (b): what is erased and not attended to is what is masked, in double precision.
Outcome erasing_is_masking(const Shape& s) {
  const auto n_layers = static_cast<std::size_t>(s.model.config().n_layers());
  bool narrows = false;
  for (std::size_t layer = 0; layer < n_layers; ++layer)
    narrows = narrows || s.policy.policy.narrows_after(layer, n_layers);
  if (!s.exact() || narrows || s.policy.changes_values) return Outcome::not_asked;
  const auto tokens = s.tokens(2, 50);
  const Fed fed = feed(s.model, tokens, {s.chunk}, s.options());
  Recorded mask(fed.drop_at);
  const auto expected =
      reference::forward(s.model.config(), s.model.weights(), tokens, {.tau = std::nullopt, .visibility = &mask});
  if (std::ranges::min(expected.min_margin) < 2e-5) return Outcome::undecided;  // of routers
  return outcome(relative_error(fed.logits, expected.logits) < 1e-5);
}

/// (c): a lane is a bag of rows.
Outcome order_means_nothing(const Shape& s) {
  if (!s.exact()) return Outcome::not_asked;
  return unless_undecided([&](std::uint64_t which) {
    const auto tokens = s.tokens(3 + which, 70);
    const Fed in_order = feed(s.model, tokens, {s.chunk}, s.options());
    SessionOptions shuffled = s.options();
    shuffled.policy = prune::chain(s.policy.policy, Shuffle{s.seed});
    return same(feed(s.model, tokens, {s.chunk}, shuffled), in_order, 1e-5);
  });
}

/// (d) and (h): a ragged batch is its sequences alone, bit for bit, and leaves an empty pool behind.
Outcome a_batch_is_singles(const Shape& s) {
  Random random(s.seed + 1);
  std::vector<Script> scripts;
  for (int i = random.integer(2, 6); i > 0; --i) {
    const auto prompt = s.tokens(8 + static_cast<std::uint64_t>(i), static_cast<std::size_t>(random.integer(1, 70)));
    scripts.push_back(
        {prompt, s.tokens(16 + static_cast<std::uint64_t>(i), static_cast<std::size_t>(random.integer(0, 20)))});
  }
  SessionOptions options = s.options();
  options.record_drops = true;
  options.chunk = s.chunk;
  options.threads = random.integer(1, 2);
  Session session(s.model, options);
  const auto together = play(session, scripts, DropLog::Keep::history);
  options.threads = 1;
  bool holds = session.stats().bytes_used == 0 && session.stats().seen_rows == 0;
  for (std::size_t i = 0; i < scripts.size() && holds; ++i) {
    Session own(s.model, options);
    const auto alone = play(own, {scripts[i]}, DropLog::Keep::history);
    holds = same_bits(together[i].logits, alone[0].logits) && together[i].drop_at == alone[0].drop_at;
  }
  return outcome(holds);
}

/// (e): the size of a chunk changes nothing, where a policy is causal token by token.
Outcome chunks_change_nothing(const Shape& s) {
  if (!s.exact() || s.policy.pace == Pace::every_pass) return Outcome::not_asked;
  return unless_undecided([&](std::uint64_t which) {
    const auto tokens = s.tokens(24 + which, 80);
    const Fed whole = feed(s.model, tokens, {128}, s.options());
    return std::ranges::all_of(std::array{1, 7, 64}, [&](int chunk) {
      return same(feed(s.model, tokens, {chunk}, s.options()), whole, 1e-5);
    });
  });
}

/// The same without a cap on its logits, which flattens the largest, that errors are relative to, and not the errors.
Model without_logit_cap(const Model& model) {
  Config config = model.config();
  config.logit_cap = 0;
  return Model::create(config, model.weights());
}

/// (f): each instruction set is the scalar one.
Outcome instruction_sets_agree(const Shape& s) {
  // A token that comes twice has keys of one norm, turned: rounding decides which is the larger.
  const bool ties = s.policy.policy.describe().find("knorm") != std::string::npos;
  if (!s.exact() || ties) return Outcome::not_asked;
  const Model model = without_logit_cap(s.model);
  return unless_undecided([&](std::uint64_t which) {
    const auto tokens = s.tokens(32 + which, 60);
    const kernels::Table& before = kernels::table();
    std::optional<Fed> scalar;
    bool holds = true;
    // The scalar one is the last.
    const auto tables = kernels::tables();
    for (auto table = tables.rbegin(); table != tables.rend(); ++table) {
      if (!(*table)->runs_here()) continue;
      kernels::use(**table);
      Fed fed = feed(model, tokens, {s.chunk}, s.options());
      if (scalar)
        holds = holds && same(fed, *scalar, 1e-5);
      else
        scalar = std::move(fed);
    }
    kernels::use(before);
    return holds;
  });
}

/// (g) and (h): a policy keeps its promises, and the pool is empty again.
Outcome promises_are_kept(const Shape& s) {
  const bool before = ::testing::Test::HasFailure();
  expect_promises(s.model, s.policy, {.kv = s.kv, .chunk = s.chunk}, 64, 20, s.seed);
  return outcome(before || !::testing::Test::HasFailure());
}

/// (i): at a strength of infinity a token sees itself, what is too young to be dropped, and sinks.
Outcome nothing_passes_an_infinite_gate(const Shape& s) {
  const Config& config = s.model.config();
  if (!config.gate) return Outcome::not_asked;
  const auto tokens = s.tokens(40, 50);
  const Fed fed = feed(s.model, tokens, {s.chunk}, {.policy = prune::learned_gate({.tau = infinity}), .kv = s.kv});
  for (std::size_t layer = 0; layer < fed.drop_at.size(); ++layer) {
    if (config.layers[layer].window > 0) continue;
    for (const auto& lane : fed.drop_at[layer])
      for (int j = 0; j < std::ssize(lane); ++j) {
        const int at = j + config.gate->recent;
        const int expected = j < config.gate->sinks || at >= std::ssize(lane) ? -1 : at;
        if (lane[static_cast<std::size_t>(j)] != expected) return Outcome::fails;
      }
  }
  return Outcome::holds;
}

bool same(const reference::Result& expected, const Fed& fed) {
  if (!(relative_error(fed.logits, expected.logits) < 1e-5)) return false;
  for (std::size_t layer = 0; layer < expected.drop_at.size(); ++layer)
    for (std::size_t head = 0; head < expected.drop_at[layer].size(); ++head)
      if (fed.drop_at[layer][fed.drop_at[layer].size() == 1 ? 0 : head] != expected.drop_at[layer][head]) return false;
  return true;
}

/// (j): decoding that really evicts is the masked pass in double precision that simulates it, in logits and drops.
Outcome eviction_is_its_simulation(const Shape& s) {
  using reference::Lanes, reference::Score;
  const Config& config = s.model.config();
  const bool lasting = std::ranges::all_of(config.layers, [](const LayerPlan& l) { return l.window == 0; });
  const bool own = std::ranges::all_of(config.layers, [](const LayerPlan& l) { return l.kv_from < 0; });
  if (!s.exact() || !lasting || !own) return Outcome::not_asked;
  Random random(s.seed + 2);
  const int rows = random.integer(6, 40), recent = random.integer(1, 6), sinks = random.integer(0, 5);
  std::optional<double> tau;
  std::optional<prune::AnyPolicy> policy;
  std::unique_ptr<reference::Visibility> simulation;
  int chunk = s.chunk;
  const auto evicts = [&](prune::AnyPolicy other, reference::EvictionRule rule) {
    policy = std::move(other);
    simulation = std::make_unique<reference::Eviction>(config, rule);
  };
  switch (random.integer(config.gate ? 0 : 1, 4)) {
    case 0:
      tau = random.one_of({0.0, 0.5});
      policy = prune::learned_gate({.tau = static_cast<float>(*tau)});
      break;
    case 1:
      policy = prune::streaming({.sinks = sinks, .recent = recent + 3});
      simulation = std::make_unique<reference::Streaming>(sinks, recent + 3);
      break;
    case 2:
      evicts(prune::h2o({.rows = rows, .recent = recent}, {.sinks = 0}), {.rows = rows, .recent = recent});
      chunk = 1;
      break;
    case 3:
      evicts(prune::lra({.rows = rows, .recent = recent}, {.sinks = 0}),
             {.score = Score::latest, .lanes = Lanes::shared, .rows = rows, .recent = recent});
      chunk = 1;
      break;
    default:
      evicts(prune::snapkv({.rows = rows, .window = recent, .pool = 3}, {.sinks = 0}),
             {.score = Score::window, .rows = rows, .recent = recent, .pool = 3, .prompts = {{0, 60}}});
  }
  const auto tokens = s.tokens(48, 60);
  const auto expected =
      reference::forward(config, s.model.weights(), tokens, {.tau = tau, .visibility = simulation.get()});
  const auto* const eviction = dynamic_cast<const reference::Eviction*>(simulation.get());
  if (std::ranges::min(expected.min_margin) < 2e-5 || (eviction != nullptr && eviction->min_margin() < 1e-4))
    return Outcome::undecided;
  return outcome(same(expected, feed(s.model, tokens, {chunk}, {.policy = policy})));
}

struct Law {
  const char* name;
  Outcome (*check)(const Shape&);
};

constexpr Law laws[] = {{"a, i: what keeps everything is no policy", keeping_everything},
                        {"b: erasing is masking", erasing_is_masking},
                        {"c: the order of rows means nothing", order_means_nothing},
                        {"d, h: a batch is its sequences alone", a_batch_is_singles},
                        {"e: chunks change nothing", chunks_change_nothing},
                        {"f: instruction sets agree", instruction_sets_agree},
                        {"g, h: policies keep their promises", promises_are_kept},
                        {"i: nothing passes an infinite gate", nothing_passes_an_infinite_gate},
                        {"j: eviction is its simulation in double precision", eviction_is_its_simulation}};

TEST(LawsTest, HoldForShapesThatASeedDraws) {
  std::uint64_t count = 12, seed = 1;
  if (const char* const asked = std::getenv("PITH_LAWS")) {
    ASSERT_TRUE(std::istringstream(asked) >> count >> seed) << asked;
  }
  std::array<std::array<std::size_t, 4>, std::size(laws)> counts{};
  for (std::uint64_t i = 0; i < count; ++i) {
    const Shape shape = draw(seed + i);
    SCOPED_TRACE("PITH_LAWS=\"1 " + std::to_string(shape.seed) + "\": " + describe(shape.model) + ", policy " +
                 shape.policy.name + ", cache in " + name(shape.kv) + ", chunks of " + std::to_string(shape.chunk));
    for (std::size_t law = 0; law < std::size(laws); ++law) {
      const Outcome outcome = laws[law].check(shape);
      ++counts[law][static_cast<std::size_t>(outcome)];
      EXPECT_TRUE(outcome != Outcome::fails) << laws[law].name;
    }
  }
  std::cout << count << " shapes from seed " << seed << " on: how many hold, fail, are undecided, are not asked\n";
  for (std::size_t law = 0; law < std::size(laws); ++law) {
    for (const std::size_t n : counts[law]) std::cout << ' ' << n;
    std::cout << "  " << laws[law].name << '\n';
  }
  for (std::size_t law = 0; law < std::size(laws); ++law)
    EXPECT_GT(counts[law][0] + (count < 12), 0u) << laws[law].name;
}

}  // namespace
}  // namespace pith::testing
