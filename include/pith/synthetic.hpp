// SPDX-License-Identifier: MIT
// Models of well-known shapes with random weights: to measure what a shape costs, nothing need be downloaded.
#pragma once

#include <string_view>
#include <vector>

#include "pith/api.hpp"
#include "pith/model.hpp"

namespace pith {

struct SyntheticOptions {
  Format format = Format::f32;  // of the matrices; where rows are no multiple of its blocks, see fitting()
  int gate_dim = 0;             // 0 = no gates; their matrices are f16
  int context = 0;              // 0 = the shape's own
};

/// "gpt2-124m", "smollm2-135m", "qwen2.5-0.5b", "llama-1.1b" (TinyLlama), "llama-3.2-1b".
PITH_API std::vector<std::string_view> synthetic_shapes();

/// Every matrix has memory of its own, but rows repeat, as encoding takes its time.
/// Throws Error (unsupported) for an unknown shape, Error (argument) for a context beyond learned positions.
PITH_API Model synthetic_model(std::string_view shape, const SyntheticOptions& options = {});

}  // namespace pith
