// SPDX-License-Identifier: MIT
// What is a policy, and what is none: wrong parts are refused where they are named, not deep inside a template.
#include <gtest/gtest.h>

#include <memory>

#include "pith/prune/methods.hpp"

namespace pith::prune {
namespace {

struct ActsNowhere {
  Needs needs() const { return {}; }
};
struct SaysNothingOfItsNeeds {
  void after_attention(const KvLayer&, const Moment&) const {}
};
struct IsAPolicy : SaysNothingOfItsNeeds {
  Needs needs() const { return {}; }
};
struct ChangesItself {
  Needs needs() const { return {}; }
  void after_attention(const KvLayer&, const Moment&) { ++calls; }
  int calls = 0;
};
struct CannotBeCopied : IsAPolicy {
  std::unique_ptr<int> state;
};

static_assert(Policy<IsAPolicy>);
static_assert(!Policy<ActsNowhere>);
static_assert(!Policy<SaysNothingOfItsNeeds>);
static_assert(!Policy<ChangesItself>, "what a policy must remember travels with the rows");
static_assert(!Policy<CannotBeCopied>);
static_assert(!Policy<int>);

static_assert(std::constructible_from<AnyPolicy, IsAPolicy>);
static_assert(!std::constructible_from<AnyPolicy, ActsNowhere>);
static_assert(!std::constructible_from<AnyPolicy, int>);

template <class... P>
concept Chainable = requires(P... p) {
  chain(p...);
};
static_assert(Chainable<LearnedGate, AnyPolicy, IsAPolicy>);
static_assert(!Chainable<LearnedGate, ActsNowhere>);

struct ScoresWithoutNeeds {
  void score(const KvLayer&, std::size_t, const Moment&, std::span<float>) const {}
};
template <class... Parts>
concept MakesAnEvict = requires {
  typename Evict<Parts...>;
};
static_assert(MakesAnEvict<ColumnScore, Rows>);
static_assert(MakesAnEvict<Recency, Rows, Both<Sinks, Recent>>);
static_assert(!MakesAnEvict<ScoresWithoutNeeds, Rows>);
static_assert(!MakesAnEvict<Rows, ColumnScore>, "in this order");
static_assert(!MakesAnEvict<ColumnScore, Rows, Recency>, "a scorer spares nothing");

TEST(ConceptsTest, MethodsAreWhatTheySay) {
  EXPECT_FALSE(none());
  EXPECT_TRUE(learned_gate());
  EXPECT_TRUE(learned_gate().needs().gate);
  EXPECT_TRUE(h2o().needs().lane_per_head);
  EXPECT_TRUE(h2o().needs().evidence.has(column::mass));
  EXPECT_EQ(snapkv({.window = 16}).needs().window, 16);
  const Needs both = chain(learned_gate(), h2o(), snapkv({.window = 16})).needs();
  EXPECT_TRUE(both.gate && both.lane_per_head && both.window == 16);
  EXPECT_TRUE(both.evidence.has(column::mass) && both.evidence.has(column::window));
}

}  // namespace
}  // namespace pith::prune
