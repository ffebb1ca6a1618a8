// SPDX-License-Identifier: MIT
#include "pith/logprobs.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "logits.hpp"
#include "pith/error.hpp"

namespace pith {

float largest_logit(std::span<const float> logits) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  float largest = -infinity;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < infinity))
      fail(ErrorCode::model, "logits", "finite numbers (or -infinity)",
           std::string(std::isnan(logits[i]) ? "NaN" : "infinity") + " for token " + std::to_string(i));
    largest = std::max(largest, logits[i]);
  }
  if (largest == -infinity)
    fail(ErrorCode::model, "logits", "at least one finite number", logits.empty() ? "none" : "-infinity everywhere");
  return largest;
}

std::span<TokenLogprob> likeliest(std::span<const float> logits, std::span<TokenLogprob> out) {
  // A heap of the best so far, the least likely of them in front.
  const std::span<TokenLogprob> best = out.first(std::min(out.size(), logits.size()));
  if (best.empty()) return best;
  for (std::size_t i = 0; i < best.size(); ++i) best[i] = {static_cast<Token>(i), logits[i]};
  std::ranges::make_heap(best, Likelier());
  for (std::size_t i = best.size(); i < logits.size(); ++i) {
    // An equal one has the higher id: it is not likelier.
    if (!(logits[i] > best.front().logprob)) continue;
    std::ranges::pop_heap(best, Likelier());
    best.back() = {static_cast<Token>(i), logits[i]};
    std::ranges::push_heap(best, Likelier());
  }
  std::ranges::sort_heap(best, Likelier());
  return best;
}

namespace {

/// log sum e^logit
double log_sum(std::span<const float> logits) {
  const double largest = largest_logit(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

}  // namespace

Logprobs::Logprobs(std::span<const float> logits) : logits_(logits), log_sum_(log_sum(logits)) {}

float Logprobs::operator[](Token token) const {
  if (token < 0 || static_cast<std::size_t>(token) >= logits_.size())
    fail(ErrorCode::argument, "token", "an id from 0 to " + std::to_string(logits_.size() - 1), std::to_string(token));
  return static_cast<float>(logits_[static_cast<std::size_t>(token)] - log_sum_);
}

double divergence(std::span<const float> was, std::span<const float> is) {
  if (was.size() != is.size())
    fail(ErrorCode::argument, "logits", std::to_string(was.size()) + " of them", std::to_string(is.size()));
  const double p_sum = log_sum(was), q_sum = log_sum(is);
  double sum = 0;
  for (std::size_t i = 0; i < was.size(); ++i) {
    const double p = was[i] - p_sum, q = is[i] - q_sum;  // logarithms
    if (std::isfinite(p)) sum += std::exp(p) * (p - q);
  }
  return std::max(sum, 0.0);  // rounding can bring it below
}

std::span<TokenLogprob> Logprobs::top(std::span<TokenLogprob> out) const {
  const std::span<TokenLogprob> best = likeliest(logits_, out);
  for (TokenLogprob& candidate : best) candidate.logprob = static_cast<float>(candidate.logprob - log_sum_);
  return best;
}

}  // namespace pith
