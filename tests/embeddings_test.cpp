// SPDX-License-Identifier: MIT
// Embeddings in place of tokens: those that tokens have are as good as the tokens, and may come between them.
#include <gtest/gtest.h>

#include <limits>

#include "pith/prune/methods.hpp"
#include "pith/session.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/feed.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

/// Rows of the model's table.
Tensor<float> embeddings_of(const Model& model, std::span<const Token> tokens) {
  Tensor<float> rows(tokens.size(), static_cast<std::size_t>(model.config().d_model));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    model.weights().embedding.row(static_cast<std::size_t>(tokens[i]), rows[i]);
  return rows;
}

TEST(EmbeddingsTest, OfTokensAreTheTokens) {
  for (const Architecture architecture : architectures()) {
    const Model model = random_model({.seed = 41, .architecture = architecture, .n_layers = 2});
    SCOPED_TRACE(describe(model));
    const auto tokens = random_tokens(1, model.config(), 60);
    const auto all = embeddings_of(model, tokens);
    const auto some = [&](std::size_t first, std::size_t count) {
      return View<const float>(all.view().rows_from(first, count));
    };
    for (const prune::AnyPolicy& policy :
         {prune::none(), prune::learned_gate(), prune::h2o({.rows = 20, .recent = 5})}) {
      const SessionOptions options{.policy = policy, .threads = 1, .chunk = 16};
      Session a(model, options), b(model, options);
      Logits2d expected, logits;
      const std::span given(tokens);
      const SequenceId in_a = a.add(given.first(40), Logits::all);
      a.prompt(in_a, given.subspan(40, 10), Logits::all);
      step_into(a, in_a, expected);
      for (const Token token : given.subspan(50)) {
        a.push(in_a, token);
        step_into(a, in_a, expected);
      }
      const SequenceId in_b = b.add(some(0, 40), Logits::all);
      b.prompt(in_b, some(40, 10), Logits::all);
      step_into(b, in_b, logits);
      b.push(in_b, some(50, 3), Logits::all);
      step_into(b, in_b, logits);
      b.push(in_b, given.subspan(53, 2), Logits::all);  // tokens between them
      step_into(b, in_b, logits);
      b.push(in_b, some(55, 5), Logits::all);
      step_into(b, in_b, logits);
      EXPECT_TRUE(same_bits(logits, expected)) << policy.describe();
    }
  }
}

TEST(EmbeddingsTest, AreRefusedByName) {
  const Model model = random_model({.seed = 42, .n_layers = 2});
  const auto d = static_cast<std::size_t>(model.config().d_model);
  Session session(model, {.threads = 1});
  Tensor<float> rows(3, d + 1);
  const auto message = [&](View<const float> view) -> std::string {
    try {
      session.add(view);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::argument);
      return error.what();
    }
    return {};
  };
  EXPECT_NE(message(rows.view()).find("embeddings: expected rows of the model's " + std::to_string(d)),
            std::string::npos);
  EXPECT_EQ(error_of([&] { session.add(rows.view().rows_from(0, 0)); }), ErrorCode::argument);
  rows[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(message(rows.view().cols_from(0, d)).find("nan in row 1"), std::string::npos);
  rows[1][2] = 0;
  session.add(rows.view().cols_from(0, d));
  EXPECT_EQ(session.step().size(), 1u);
}

}  // namespace
}  // namespace pith::testing
