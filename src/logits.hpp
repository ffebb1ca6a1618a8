// SPDX-License-Identifier: MIT
// What every reader of logits asks of them.
#pragma once

#include <span>

#include "pith/logprobs.hpp"

namespace pith {

/// The largest of a row of logits. Throws Error (model) for NaN, +infinity, or a row without a finite number.
float largest_logit(std::span<const float> logits);

/// Of equals the lower id is the likelier one, so that every sort has one result.
struct Likelier {
  bool operator()(const TokenLogprob& a, const TokenLogprob& b) const {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  }
};

/// Fills `out` with the largest logits in descending order (as TokenLogprob::logprob, not normalised); returns the part
/// that is filled.
std::span<TokenLogprob> likeliest(std::span<const float> logits, std::span<TokenLogprob> out);

}  // namespace pith
