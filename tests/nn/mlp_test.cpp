// SPDX-License-Identifier: MIT
// Mixtures of experts: who is chosen, how much each counts, and that the others are not read.
#include "pith/nn/mlp.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr std::size_t d = 32, ff = 32, tokens = 5;

Matrix random_matrix(Random& random, std::size_t rows, std::size_t cols) {
  std::vector<float> values(rows * cols);
  for (float& value : values) value = random.normal() / std::sqrt(static_cast<float>(cols));
  return Matrix::encode(Format::f32, {values.data(), rows, cols});
}

/// A router whose logit of expert e is e times the token's first number.
struct Mixture {
  LayerPlan plan{.experts = {.count = 4, .chosen = 2}};
  LayerWeights w;
  Activations h;

  Mixture() {
    Random random(1);
    std::vector<float> router(4 * d);
    for (std::size_t e = 0; e < 4; ++e) router[e * d] = static_cast<float>(e);
    w.router = Matrix::encode(Format::f32, {router.data(), 4, d});
    for (int e = 0; e < 4; ++e)
      w.experts.push_back(
          {{random_matrix(random, ff, d), {}}, {random_matrix(random, ff, d), {}}, {random_matrix(random, d, ff), {}}});
    h.resize(tokens, d);
    for (std::size_t t = 0; t < tokens; ++t)
      for (float& value : h.values()[t]) value = random.normal();
  }

  std::vector<float> run(Activations& x) {
    MlpScratch scratch;
    Tensor<float> out(x.values().rows, d);
    feed_forward(plan, w, x, scratch, out.view(), Threads(1));
    return {out.data(), out.data() + out.rows() * d};
  }

  /// What one expert makes of a token.
  std::vector<float> expert(std::size_t e, std::size_t t) {
    MlpScratch scratch;
    Activations x;
    x.resize(1, d);
    std::ranges::copy(h.values()[t], x.values()[0].begin());
    Tensor<float> out(1, d);
    run_mlp(plan, w.experts[e], x, scratch, out.view(), Threads(1));
    return {out.data(), out.data() + d};
  }
};

TEST(MixtureTest, WeighsTheMostProbable) {
  Mixture mixture;
  for (std::size_t t = 0; t < tokens; ++t) mixture.h.values()[t][0] = 0.5f;  // logits 0, 0.5, 1, 1.5
  for (const bool renormalised : {true, false}) {
    mixture.plan.experts.renormalised = renormalised;
    const auto out = mixture.run(mixture.h);
    double sum = 0;
    for (int e = renormalised ? 2 : 0; e < 4; ++e) sum += std::exp(0.5 * e);
    for (std::size_t t = 0; t < tokens; ++t) {
      const auto second = mixture.expert(2, t), first = mixture.expert(3, t);
      for (std::size_t i = 0; i < d; ++i) {
        const double expected = (std::exp(1.0) * second[i] + std::exp(1.5) * first[i]) / sum;
        EXPECT_NEAR(out[t * d + i], expected, 1e-6);
      }
    }
  }
}

TEST(MixtureTest, OfEqualsChoosesTheFirst) {
  Mixture mixture;
  mixture.plan.experts.chosen = 1;
  for (std::size_t t = 0; t < tokens; ++t) mixture.h.values()[t][0] = 0;
  const auto out = mixture.run(mixture.h);
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto first = mixture.expert(0, t);
    for (std::size_t i = 0; i < d; ++i) EXPECT_EQ(out[t * d + i], first[i]);
  }
}

TEST(MixtureTest, ReadsOnlyTheChosen) {
  Mixture mixture;
  for (std::size_t t = 0; t < tokens; ++t) mixture.h.values()[t][0] = t % 2 == 0 ? 1.0f : 2.0f;
  const auto expected = mixture.run(mixture.h);
  // Bytes that nobody may touch: no number comes out of them, and no sum with them.
  for (const std::size_t e : {0u, 1u}) {
    const std::vector<float> none(ff * d, std::numeric_limits<float>::quiet_NaN());
    for (Linear MlpWeights::*part : {&MlpWeights::gate, &MlpWeights::up, &MlpWeights::down})
      (mixture.w.experts[e].*part).weight = Matrix::encode(Format::f32, {none.data(), ff, d});
  }
  EXPECT_EQ(mixture.run(mixture.h), expected);
}

TEST(MixtureTest, OfManyTokensIsThatOfEach) {
  Mixture mixture;
  mixture.plan.experts.chosen = 3;
  const auto all = mixture.run(mixture.h);
  for (std::size_t t = 0; t < tokens; ++t) {
    Activations one;
    one.resize(1, d);
    std::ranges::copy(mixture.h.values()[t], one.values()[0].begin());
    const auto alone = mixture.run(one);
    for (std::size_t i = 0; i < d; ++i) EXPECT_EQ(all[t * d + i], alone[i]) << "token " << t;
  }
}

}  // namespace
}  // namespace pith::testing
