// SPDX-License-Identifier: MIT
// A lane is a bag of rows: their order changes the logits by rounding only, and what is forgotten not at all.
#include <gtest/gtest.h>

#include "pith/prune/combinators.hpp"
#include "support/compare.hpp"
#include "support/feed.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"
#include "support/shuffle.hpp"

namespace pith::testing {
namespace {

TEST(OrderTest, OfRowsMeansNothing) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    const Model model = random_model({.seed = seed});
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(model));
    const auto tokens = random_tokens(seed, model.config(), 110);
    for (const PolicyCase& one : policy_cases(model.config())) {
      if (!runs_on(one, model.config())) continue;
      for (const Feeding feeding : {Feeding{24}, Feeding{Feeding::decode}}) {
        SCOPED_TRACE(one.name + ", " + feeding.name());
        const Fed in_order = feed(model, tokens, feeding, {.policy = one.policy});
        const Fed shuffled = feed(model, tokens, feeding, {.policy = prune::chain(one.policy, Shuffle{seed})});
        EXPECT_LT(relative_error(shuffled.logits, in_order.logits), 1e-5);
        EXPECT_EQ(shuffled.drop_at, in_order.drop_at);
      }
    }
  }
}

}  // namespace
}  // namespace pith::testing
