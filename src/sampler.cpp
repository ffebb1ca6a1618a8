// SPDX-License-Identifier: MIT
#include "pith/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "logits.hpp"
#include "pith/error.hpp"

namespace pith {

namespace {

void check(bool holds, const char* option, const char* expected, float found) {
  if (!holds) fail(ErrorCode::argument, option, expected, std::to_string(found));
}

void check(const SamplerOptions& o) {
  // NaN fails every comparison.
  constexpr float largest = std::numeric_limits<float>::max();
  check(o.repetition_penalty > 0 && o.repetition_penalty <= largest, "repetition_penalty", "a number above 0",
        o.repetition_penalty);
  check(std::isfinite(o.frequency_penalty), "frequency_penalty", "a finite number", o.frequency_penalty);
  check(std::isfinite(o.presence_penalty), "presence_penalty", "a finite number", o.presence_penalty);
  for (const TokenBias& b : o.logit_bias)
    check(b.bias <= largest, "logit_bias", "finite numbers, or -infinity", b.bias);
  const auto check_ids = [](std::span<const Token> ids, const char* option) {
    for (const Token id : ids)
      if (id < 0) fail(ErrorCode::argument, option, "token ids", std::to_string(id));
  };
  for (const TokenBias& b : o.logit_bias) check_ids(std::span(&b.token, 1), "logit_bias");
  check_ids(o.banned, "banned");
  check_ids(o.allowed, "allowed");
  if (o.repetition_window < 0)
    fail(ErrorCode::argument, "repetition_window", "at least 0", std::to_string(o.repetition_window));
  if (o.top_k < 0) fail(ErrorCode::argument, "top_k", "at least 0", std::to_string(o.top_k));
  check(o.top_p > 0 && o.top_p <= 1, "top_p", "a number above 0, at most 1", o.top_p);
  check(o.min_p >= 0 && o.min_p <= 1, "min_p", "a number from 0 to 1", o.min_p);
  check(o.temperature >= 0 && o.temperature <= largest, "temperature", "a number of at least 0", o.temperature);
}

}  // namespace

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)), rng_(options_.seed) {
  check(options_);
  if (options_.repetition_penalty == 1 && options_.frequency_penalty == 0 && options_.presence_penalty == 0)
    options_.repetition_window = 0;
  constexpr int most_expected = 1 << 16;
  history_.reserve(static_cast<std::size_t>(std::min(options_.repetition_window, most_expected)));
}

Token Sampler::operator()(std::span<const float> logits) {
  largest_logit(logits);  // throws for what is no row of logits
  const std::span<const float> row = shaped(logits);
  const auto best = std::ranges::max_element(row);
  if (!std::isfinite(*best)) fail(ErrorCode::argument, "sampler", "options that leave a token to choose", "none left");
  if (options_.temperature == 0) return static_cast<Token>(best - row.begin());
  gather(row);
  if (options_.top_p < 1) keep_top_p(*best);
  if (options_.min_p > 0) keep_min_p(*best);
  return draw(*best);
}

void Sampler::accept(Token token) {
  if (token < 0) fail(ErrorCode::argument, "accept", "a token id", std::to_string(token));
  const auto window = static_cast<std::size_t>(options_.repetition_window);
  if (history_.size() < window) {
    history_.push_back(token);
  } else if (window > 0) {
    history_[oldest_] = token;
    oldest_ = (oldest_ + 1) % window;
  }
}

void Sampler::accept(std::span<const Token> tokens) {
  for (const Token token : tokens) accept(token);
}

void Sampler::reset() {
  history_.clear();
  oldest_ = 0;
  rng_ = Pcg32(options_.seed);
}

/// What bias, bans and penalties make of the logits.
std::span<const float> Sampler::shaped(std::span<const float> logits) {
  constexpr float never = -std::numeric_limits<float>::infinity();
  const SamplerOptions& o = options_;
  if (o.repetition_window == 0 && o.logit_bias.empty() && o.banned.empty() && o.allowed.empty()) return logits;
  if (o.allowed.empty()) {
    logits_.assign(logits.begin(), logits.end());
  } else {
    logits_.assign(logits.size(), never);
    for (const Token token : o.allowed) {
      float& allowed = logit(token, "allowed");  // checks the token
      allowed = logits[static_cast<std::size_t>(token)];
    }
  }
  for (const TokenBias& b : o.logit_bias) logit(b.token, "logit_bias") += b.bias;
  for (const Token token : o.banned) logit(token, "banned") = never;
  if (o.repetition_window > 0) penalise();
  return logits_;
}

float& Sampler::logit(Token token, const char* option) {
  if (static_cast<std::size_t>(token) >= logits_.size())
    fail(ErrorCode::argument, option, "tokens below " + std::to_string(logits_.size()), std::to_string(token));
  return logits_[static_cast<std::size_t>(token)];
}

void Sampler::penalise() {
  recent_.reserve(history_.capacity());
  recent_.assign(history_.begin(), history_.end());
  std::ranges::sort(recent_);
  for (auto at = recent_.begin(); at != recent_.end();) {
    const auto past = std::upper_bound(at, recent_.end(), *at);
    float& x = logit(*at, "penalties");
    x = x > 0 ? x / options_.repetition_penalty : x * options_.repetition_penalty;
    x -= static_cast<float>(past - at) * options_.frequency_penalty + options_.presence_penalty;
    at = past;
  }
}

/// The top_k candidates in descending order, or all in the order of their ids.
void Sampler::gather(std::span<const float> logits) {
  candidates_.resize(logits.size());
  if (options_.top_k > 0) {
    const auto k = std::min(static_cast<std::size_t>(options_.top_k), logits.size());
    likeliest(logits, std::span(candidates_).first(k));
    candidates_.resize(k);
  } else {
    for (std::size_t i = 0; i < logits.size(); ++i) candidates_[i] = {static_cast<Token>(i), logits[i]};
  }
}

/// The likeliest that together hold top_p of the candidates' probability, in descending order.
void Sampler::keep_top_p(float largest) {
  const auto weight = [&](const TokenLogprob& c) { return std::exp(static_cast<double>(c.logprob) - largest); };
  const auto less_likely = [](const TokenLogprob& a, const TokenLogprob& b) { return Likelier()(b, a); };
  double missing = 0;
  for (const TokenLogprob& candidate : candidates_) missing += weight(candidate);
  missing *= options_.top_p;
  // Taken off a heap one by one: few are wanted of many.
  std::ranges::make_heap(candidates_, less_likely);
  auto taken = candidates_.end();
  do {
    std::pop_heap(candidates_.begin(), taken, less_likely);
    missing -= weight(*--taken);
  } while (missing > 0 && taken != candidates_.begin());
  candidates_.erase(candidates_.begin(), taken);
  std::ranges::reverse(candidates_);
}

/// Those with p >= min_p max p.
void Sampler::keep_min_p(float largest) {
  const float least = largest + std::log(options_.min_p);
  std::erase_if(candidates_, [&](const TokenLogprob& c) { return c.logprob < least; });
}

/// One of the candidates, with probability proportional to e^(logit / temperature).
Token Sampler::draw(float largest) {
  weights_.clear();
  weights_.reserve(candidates_.capacity());
  double total = 0;
  for (const TokenLogprob& candidate : candidates_) {
    weights_.push_back(std::exp((static_cast<double>(candidate.logprob) - largest) / options_.temperature));
    total += weights_.back();
  }
  double left = rng_.uniform() * total;
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    chosen = i;  // rounding may leave a little at the end: the last possible one then
    if ((left -= weights_[i]) < 0) break;
  }
  return candidates_[chosen].token;
}

}  // namespace pith
