// SPDX-License-Identifier: MIT
// What methods refuse to be told.
#include "pith/prune/methods.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/files.hpp"

namespace pith::testing {
namespace {

using namespace prune;

TEST(MethodsTest, BudgetsBelowWhatIsSparedAreRefused) {
  test::expect_error(ErrorCode::argument, {"h2o: rows", "260", "100"}, [] { h2o({.rows = 100}); });
  test::expect_error(ErrorCode::argument, {"snapkv: rows", "36", "30"}, [] { snapkv({.rows = 30}); });
  test::expect_error(ErrorCode::argument, {"tova: rows", "5", "4"}, [] { tova({.rows = 4}); });
  test::expect_error(ErrorCode::argument, {"d2o: rows", "68", "60"}, [] { d2o({.rows = 60}); });
  test::expect_error(ErrorCode::argument, {"layer_defensivekv: rows", "36", "30"},
                     [] { layer_defensivekv({.rows = 30}); });
  h2o({.rows = 100}, {.share = 0.5f});  // as many as that share comes to
}

TEST(MethodsTest, OptionsOutOfRangeAreRefusedByName) {
  test::expect_error(ErrorCode::argument, {"adakv: floor", "at most 1", "2"}, [] { adakv({}, {.floor = 2}); });
  test::expect_error(ErrorCode::argument, {"h2o: share", "at least 0", "-0.5"}, [] { h2o({}, {.share = -0.5f}); });
  test::expect_error(ErrorCode::argument, {"lagkv: lag", "at least 2", "1"}, [] { lagkv({.lag = 1}); });
  test::expect_error(ErrorCode::argument, {"rkv: weight", "at most 1", "2"}, [] { rkv({.weight = 2}); });
  test::expect_error(ErrorCode::argument, {"expected_attention: cov", "at most 2", "3"},
                     [] { expected_attention({}, {.cov = 3}); });
  test::expect_error(ErrorCode::argument, {"defensivekv: pool must be odd"}, [] { defensivekv({.pool = 4}); });
  test::expect_error(ErrorCode::argument, {"pyramidkv: pool must be odd"}, [] { pyramidkv({.pool = 4}); });
  test::expect_error(ErrorCode::argument, {"gate: tau"}, [] { learned_gate({.tau = std::nanf("")}); });
}

}  // namespace
}  // namespace pith::testing
