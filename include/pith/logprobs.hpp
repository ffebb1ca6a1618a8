// SPDX-License-Identifier: MIT
// The distribution that a row of logits stands for: log softmax.
#pragma once

#include <span>

#include "pith/api.hpp"
#include "pith/tokenizer.hpp"

namespace pith {

struct TokenLogprob {
  Token token = 0;
  float logprob = 0;  // in nats
};

/// A view of one row of logits, as the model gave them. Allocates nothing.
class PITH_API Logprobs {
 public:
  /// Borrows `logits`, [vocab_size]. Throws Error (model) for NaN, +infinity, or a row without a finite number.
  explicit Logprobs(std::span<const float> logits);

  /// log p(token). Throws Error (argument) for a token out of range.
  float operator[](Token token) const;

  /// Fills `out` with the likeliest tokens, in descending order, of equal ones the lower id first; returns the part
  /// that is filled (all of it, unless the vocabulary is smaller).
  std::span<TokenLogprob> top(std::span<TokenLogprob> out) const;

 private:
  std::span<const float> logits_;
  double log_sum_ = 0;  // log sum e^logit
};

/// How far an answer went from what it was, the KL divergence sum p log(p / q) in nats, for p = softmax(was) and
/// q = softmax(is): 0 where they are equal, infinity where what was possible no longer is. Throws Error as Logprobs,
/// and Error (argument) for rows of different sizes.
PITH_API double divergence(std::span<const float> was, std::span<const float> is);

}  // namespace pith
