// SPDX-License-Identifier: MIT
// The larger structs of pith/pith.h, and what the C++ library has for them.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "c/call.hpp"
#include "pith/generator.hpp"
#include "pith/pith.h"

namespace pith::c {

SamplerOptions sampler_options(const Given& given, const pith_sampler_options* options, const std::string& name);
SessionOptions session_options(const Given& given, const pith_session_options* options, const Model& model);

std::vector<pith_token_logprob> in_c(std::span<const TokenLogprob> logprobs);

/// For pith_stats_free().
pith_stats* in_c(CacheStats stats);

}  // namespace pith::c
