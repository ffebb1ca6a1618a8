// SPDX-License-Identifier: MIT
// Random models whose decisions no rounding can turn, so that two ways to compute must drop the same.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "support/random_model.hpp"

namespace pith::testing {

/// Seeds that are tried, and how many of their models are to be decided.
struct Seeds {
  std::uint64_t first = 1, end = 60;
  int cases = 1;
};

/// Calls body(model, seed) for models of one seed after another, until it has said `cases` times that its model was
/// decided, or something has failed.
template <class F>
void for_decided_models(ModelSpec spec, const Seeds& seeds, F&& body) {
  int done = 0;
  for (std::uint64_t seed = seeds.first; done < seeds.cases && !::testing::Test::HasFailure(); ++seed) {
    ASSERT_LT(seed, seeds.end) << "most random models are undecided";
    spec.seed = seed;
    const Model model = random_model(spec);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + describe(model));
    if (body(model, seed)) ++done;
  }
}

}  // namespace pith::testing
