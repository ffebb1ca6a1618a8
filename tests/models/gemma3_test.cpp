// SPDX-License-Identifier: MIT
// Gemma 3 270M against transformers in float64, from the same numbers as a Hugging Face directory in f32 and from the
// quantised file they come from. gemma3.py beside this makes the directory and says how.
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

constexpr const char* directory = "gemma-3-270m";
constexpr const char* quantised = "gemma-3-270m.q4_k_m.gguf";

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

TEST(Gemma3, IsTransformersInF32) {
  const auto folder = real_model(directory);
  if (folder.empty()) GTEST_SKIP() << real_absent(directory);
  const Model model = Model::load(folder);
  const Found found = compare(model, texts(folder, model.config()));
  EXPECT_LT(found.error, 2e-4);
  EXPECT_EQ(found.greedy, found.of);
}

// Its weights are the same numbers; rows are rounded to 8 bits before they are multiplied with them.
TEST(Gemma3, IsNearWhereItIsQuantised) {
  const auto folder = real_model(directory), file = real_model(quantised);
  if (folder.empty() || file.empty()) GTEST_SKIP() << real_absent(folder.empty() ? directory : quantised);
  const Model model = Model::load(file);
  const Found found = compare(model, texts(folder, model.config()));
  EXPECT_LT(found.mean_kl, 0.005);
  EXPECT_GE(found.greedy, found.of * 95 / 100);
}

}  // namespace
}  // namespace pith::testing
