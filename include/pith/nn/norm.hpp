// SPDX-License-Identifier: MIT
// Normalisations, as types.
#pragma once

#include <cstddef>

#include "pith/nn/weights.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/tensor/parallel.hpp"
#include "pith/tensor/view.hpp"

namespace pith::inline nn {

/// x / rms(x) * weight (Zhang and Sennrich, arXiv 1910.07467).
struct RmsNorm {
  static constexpr bool has_bias = false;
  static void apply(const NormWeights& w, float eps, const float* x, std::size_t n, float* out) {
    ops::rms_norm(x, w.weight.data(), eps, n, out);
  }
};

/// (x - mean) / deviation * weight + bias (Ba et al., arXiv 1607.06450).
struct LayerNorm {
  static constexpr bool has_bias = true;
  static void apply(const NormWeights& w, float eps, const float* x, std::size_t n, float* out) {
    ops::layer_norm(x, w.weight.data(), w.bias.data(), eps, n, out);
  }
};

/// Every row of x [rows, d]; out may be x.
template <class Norm>
void normalise(const NormWeights& w, float eps, View<const float> x, View<float> out, const Threads& threads) {
  threads.run_rows(x.rows, x.cols, 4, [&](std::size_t t) { Norm::apply(w, eps, x[t].data(), x.cols, out[t].data()); });
}

}  // namespace pith::inline nn
