// SPDX-License-Identifier: MIT
// A context that will be asked about, of which only what is looked at when it is written again is to stay.
#pragma once

#include "options.hpp"
#include "pith/session.hpp"
#include "pith/tokenizer.hpp"

namespace pith::tool {

/// A share of its rows, asked for in the words of the authors (KVzip, Kim et al., arXiv 2505.23416), and answered where
/// the model's chat template has an answer begin; without a template, behind a newline.
Replay replay_of(const ModelOptions& model, const Tokenizer& tokenizer, float share);

}  // namespace pith::tool
