// SPDX-License-Identifier: MIT
// Models that people run against transformers in float64. gemma3.py and smollm2.py beside this make what is expected
// and say how.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "support/compare.hpp"
#include "support/feed.hpp"
#include "support/golden.hpp"
#include "support/real_models.hpp"

namespace pith::testing {
namespace {

namespace fs = std::filesystem;
using test::real_absent;
using test::real_model;

/// The same numbers twice: a Hugging Face directory in f32, with what transformers computes of it beside, and the
/// quantised file that they come from.
struct RealModel {
  const char* name;
  const char* directory;
  const char* quantised;
};

constexpr const char* made = "/expected.json";

struct Text {
  std::vector<Token> tokens, greedy;       // and what it goes on with
  std::vector<std::size_t> rows;           // the tokens whose logits are known
  std::vector<std::vector<float>> logits;  // of these
};

std::vector<Text> texts(const fs::path& folder, const Config& config) {
  std::ifstream file(folder / "expected.json");
  std::vector<Text> out;
  for (const auto& one : nlohmann::json::parse(file)) {
    const auto logits = folder / ("logits-" + std::to_string(out.size()) + ".f32");
    out.push_back({one.at("tokens").get<std::vector<Token>>(), one.at("greedy").get<std::vector<Token>>(),
                   one.at("rows").get<std::vector<std::size_t>>(),
                   read_rows(logits, static_cast<std::size_t>(config.vocab_size))});
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

struct Found {
  double error = 0;                // relative, the largest of all known rows
  double mean_kl = 0;              // from the known rows
  std::size_t greedy = 0, of = 0;  // choices that are the expected ones, the text before them given
};

Found compare(const Model& model, const std::vector<Text>& texts) {
  Found found;
  std::size_t rows = 0;
  for (const Text& text : texts) {
    std::vector<Token> all = text.tokens;
    all.insert(all.end(), text.greedy.begin(), text.greedy.end());
    const Fed fed = feed(model, all, {64}, {.threads = 2, .context = 1024});
    Logits2d known;
    for (const std::size_t row : text.rows) known.push_back(fed.logits[row]);
    found.error = std::max(found.error, relative_error(known, text.logits));
    for (std::size_t i = 0; i < known.size(); ++i, ++rows) found.mean_kl += kl(text.logits[i], known[i]);
    for (std::size_t i = 0; i < text.greedy.size(); ++i, ++found.of) {
      const auto& logits = fed.logits[text.tokens.size() - 1 + i];
      found.greedy += std::ranges::max_element(logits) - logits.begin() == text.greedy[i] ? 1u : 0u;
    }
  }
  found.mean_kl /= static_cast<double>(rows);
  std::cout << "largest relative error " << found.error << ", mean KL " << found.mean_kl << ", greedy choices "
            << found.greedy << " of " << found.of << '\n';
  return found;
}

class RealModels : public ::testing::TestWithParam<RealModel> {};

TEST_P(RealModels, AreTransformersInF32) {
  const auto folder = real_model(GetParam().directory);
  if (folder.empty()) GTEST_SKIP() << real_absent(GetParam().directory);
  if (!fs::exists(folder / "expected.json")) GTEST_SKIP() << real_absent(GetParam().directory + std::string(made));
  const Model model = Model::load(folder);
  const Found found = compare(model, texts(folder, model.config()));
  EXPECT_LT(found.error, 2e-4);
  EXPECT_EQ(found.greedy, found.of);
}

// The weights are the same numbers; rows are rounded to 8 bits before they are multiplied with them.
TEST_P(RealModels, AreNearWhereTheyAreQuantised) {
  const auto folder = real_model(GetParam().directory), file = real_model(GetParam().quantised);
  if (folder.empty() || file.empty())
    GTEST_SKIP() << real_absent(folder.empty() ? GetParam().directory : GetParam().quantised);
  if (!fs::exists(folder / "expected.json")) GTEST_SKIP() << real_absent(GetParam().directory + std::string(made));
  const Model model = Model::load(file);
  const Found found = compare(model, texts(folder, model.config()));
  EXPECT_LT(found.mean_kl, 0.005);
  EXPECT_GE(found.greedy, found.of * 95 / 100);
}

INSTANTIATE_TEST_SUITE_P(, RealModels,
                         ::testing::Values(RealModel{"Gemma3", "gemma-3-270m", "gemma-3-270m.q4_k_m.gguf"},
                                           RealModel{"SmolLM2", "smollm2-135m-instruct",
                                                     "smollm2-135m-instruct.q4_1.gguf"}),
                         [](const auto& model) { return std::string(model.param.name); });

}  // namespace
}  // namespace pith::testing
