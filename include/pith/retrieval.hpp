// SPDX-License-Identifier: MIT
// Which heads look things up: needles in texts, questions about them, and where each head looked while the answer was
// written (Wu et al., arXiv 2404.15574, section 2).
#pragma once

#include <cstddef>
#include <span>
#include <stop_token>
#include <vector>

#include "pith/api.hpp"
#include "pith/model.hpp"
#include "pith/prune/head_scores.hpp"
#include "pith/session.hpp"
#include "pith/tokenizer.hpp"

namespace pith {

/// A text with a needle in it, a question about it at its end.
struct NeedleTrial {
  std::vector<Token> prompt;
  std::size_t begin = 0, end = 0;  // the needle: prompt[begin, end)
};

/// What came of it.
struct NeedleAnswer {
  std::vector<Token> tokens;              // the likeliest, one after the other
  std::vector<std::vector<float>> found;  // [layer][head] part of the needle that the head looked up
};

/// The answer to a trial, of at most `tokens` tokens; one of `ends` ends it and is no part of it. A head has looked up
/// a token of the needle in the step that gives the token again, if it attends to that place of the needle more than to
/// any other token; each time counts 1 / (length of the needle).
/// `options`: of the session, whose record_focus and on_pass are taken. Throws Error (argument) where the needle is not
/// in the prompt, or `tokens` is 0, and as a session does.
PITH_API NeedleAnswer answer(const Model& model, const NeedleTrial& trial, std::size_t tokens,
                             std::span<const Token> ends = {}, SessionOptions options = {},
                             const std::stop_token& stop = {});

/// The mean of what heads have found, and of the query heads that share a kv-head the best one's; layers with a sliding
/// window of their own have no scores.
PITH_API prune::HeadScores mean_by_kv_head(const Config& config, std::span<const NeedleAnswer> answers);

}  // namespace pith
