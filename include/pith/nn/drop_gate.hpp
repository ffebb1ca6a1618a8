// SPDX-License-Identifier: MIT
// The projections of learned gates; their judgement is the policy prune::LearnedGate.
#pragma once

#include <array>
#include <cmath>
#include <optional>

#include "pith/nn/config.hpp"
#include "pith/nn/weights.hpp"
#include "pith/prune/policy.hpp"
#include "pith/tensor/matrix.hpp"

namespace pith::inline nn {

/// Queries and keys of a layer's gates for the tokens of a pass, from the same normalised input as q, k and v, without
/// rotation, in f32.
class DropGate {
 public:
  /// The two products with the layer's input that give them.
  std::array<Product, 2> products(const DropGateWeights& w, std::size_t tokens) {
    queries_.resize(tokens, w.wq.rows());
    keys_.resize(tokens, w.wk.rows());
    return {{{w.wq, queries_.view()}, {w.wk, keys_.view()}}};
  }

  View<const float> keys() const { return keys_.view(); }  // [tokens, gates * r]

  prune::GateQueries queries(const DropGateWeights& w, const DropGateConfig& config, std::size_t first,
                             std::size_t count, std::optional<float> tau) const {
    return {queries_.view().rows_from(first, count),
            1.0f / std::sqrt(static_cast<float>(config.dim)),
            w.bias,
            config.threshold,
            config.recent,
            config.sinks,
            tau};
  }

 private:
  Tensor<float> queries_, keys_;  // [tokens, gates * r]
};

}  // namespace pith::inline nn
