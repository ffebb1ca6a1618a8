// SPDX-License-Identifier: MIT
// Models that people run against transformers in float64. gemma3.py and smollm2.py beside this make what is expected
// and say how.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "pith/quantize.hpp"
#include "support/feed.hpp"
#include "support/files.hpp"
#include "support/real_models.hpp"

namespace pith::testing {
namespace {

namespace fs = std::filesystem;
using test::real_absent;
using test::real_model;
using test::TempFolder;

struct RealModel {
  const char* name;
  const char* file;      // in the folder of real models
  const char* expected;  // of expected.py
};

struct Text {
  std::vector<Token> tokens, greedy;  // and what it goes on with
  std::vector<std::size_t> rows;      // the tokens of which logits are known
  Logits2d logits;                    // of these, every so many-th
  std::vector<double> largest;        // magnitudes of all their logits
};

struct Expected {
  std::size_t every = 1;
  std::vector<Text> texts;
};

Expected expected_of(const RealModel& model) {
  std::ifstream file(fs::path(PITH_SOURCE_DIR) / "tests" / "models" / model.expected);
  const auto json = nlohmann::json::parse(file);
  Expected out{json.at("every"), {}};
  for (const auto& one : json.at("texts")) {
    Text& text = out.texts.emplace_back();
    one.at("tokens").get_to(text.tokens);
    one.at("greedy").get_to(text.greedy);
    for (const auto& row : one.at("rows")) {
      text.rows.push_back(row.at("token"));
      text.logits.push_back(row.at("logits"));
      text.largest.push_back(row.at("largest"));
    }
  }
  return out;
}

/// sum p log(p / q) of the softmaxes of logits a and b, in double.
double kl(std::span<const float> a, std::span<const float> b) {
  const auto log_sum = [](std::span<const float> x) {
    const double largest = *std::ranges::max_element(x);
    double sum = 0;
    for (const float value : x) sum += std::exp(static_cast<double>(value) - largest);
    return largest + std::log(sum);
  };
  const double log_a = log_sum(a), log_b = log_sum(b);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double log_p = static_cast<double>(a[i]) - log_a, log_q = static_cast<double>(b[i]) - log_b;
    sum += std::exp(log_p) * (log_p - log_q);
  }
  return sum;
}

/// Of every text and what it goes on with.
std::vector<Logits2d> logits_of(const Model& model, const Expected& expected) {
  std::vector<Logits2d> out;
  for (const Text& text : expected.texts) {
    std::vector<Token> all = text.tokens;
    all.insert(all.end(), text.greedy.begin(), text.greedy.end());
    out.push_back(feed(model, all, {64}, {.threads = 2, .context = 1024}).logits);
  }
  return out;
}

struct Greedy {
  std::size_t same = 0, of = 0;  // choices that are the expected ones, the text before them given
};

Greedy greedy(const std::vector<Logits2d>& logits, const Expected& expected) {
  Greedy out;
  for (std::size_t t = 0; t < logits.size(); ++t) {
    const Text& text = expected.texts[t];
    for (std::size_t i = 0; i < text.greedy.size(); ++i, ++out.of) {
      const auto& row = logits[t][text.tokens.size() - 1 + i];
      out.same += std::ranges::max_element(row) - row.begin() == text.greedy[i] ? 1u : 0u;
    }
  }
  return out;
}

/// The largest |found - expected| of a known row over the largest magnitude in it.
double error(const std::vector<Logits2d>& logits, const Expected& expected) {
  double worst = 0;
  for (std::size_t t = 0; t < logits.size(); ++t) {
    const Text& text = expected.texts[t];
    for (std::size_t r = 0; r < text.rows.size(); ++r) {
      const auto& found = logits[t][text.rows[r]];
      for (std::size_t i = 0; i < text.logits[r].size(); ++i) {
        const double difference = std::abs(static_cast<double>(found[i * expected.every]) - text.logits[r][i]);
        if (!(difference / text.largest[r] <= worst)) worst = difference / text.largest[r];
      }
    }
  }
  return worst;
}

double mean_kl(const std::vector<Logits2d>& truth, const std::vector<Logits2d>& found) {
  double sum = 0, rows = 0;
  for (std::size_t t = 0; t < truth.size(); ++t)
    for (std::size_t row = 0; row < truth[t].size(); ++row, ++rows) sum += kl(truth[t][row], found[t][row]);
  return sum / rows;
}

class RealModels : public ::testing::TestWithParam<RealModel> {};

// The same numbers twice: in f32, which is to compute what transformers does in float64, and as the file has them,
// whose products round rows to eight bits.
TEST_P(RealModels, ComputeWhatTransformersDoes) {
  const auto file = real_model(GetParam().file);
  if (file.empty()) GTEST_SKIP() << real_absent(GetParam().file);
  const Expected expected = expected_of(GetParam());
  ASSERT_FALSE(expected.texts.empty());
  const TempFolder scratch;
  const auto whole = scratch.path() / "f32.gguf";
  quantize(file, whole, {.format = Format::f32});
  const auto exact = logits_of(Model::load(whole), expected), quantised = logits_of(Model::load(file), expected);
  const Greedy all = greedy(exact, expected), most = greedy(quantised, expected);
  const double far = error(exact, expected), apart = mean_kl(exact, quantised);
  std::cout << "largest relative error " << far << ", greedy choices " << all.same << " of " << all.of
            << "; quantised: mean KL " << apart << ", greedy choices " << most.same << '\n';
  EXPECT_LT(far, 2e-4);
  EXPECT_EQ(all.same, all.of);
  EXPECT_LT(apart, 0.005);
  EXPECT_GE(most.same, most.of * 95 / 100);
}

INSTANTIATE_TEST_SUITE_P(, RealModels,
                         ::testing::Values(RealModel{"Gemma3", "gemma-3-270m.q4_k_m.gguf", "gemma3.json"},
                                           RealModel{"SmolLM2", "smollm2-135m-instruct.q4_1.gguf", "smollm2.json"}),
                         [](const auto& model) { return std::string(model.param.name); });

}  // namespace
}  // namespace pith::testing
