// SPDX-License-Identifier: MIT
// Normalisations.
#pragma once

#include <cmath>
#include <cstddef>

#include "pith/nn/config.hpp"
#include "pith/nn/weights.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/tensor/parallel.hpp"
#include "pith/tensor/view.hpp"

namespace pith::inline nn {

/// n numbers; out may be x.
inline void normalise(Norm norm, const NormWeights& w, float eps, const float* x, std::size_t n, float* out) {
  const float* const weight = w.weight.data();
  switch (norm) {
    case Norm::rms:
      return ops::rms_norm(x, weight, eps, n, out);
    case Norm::rms_plus_one: {
      const float scale = 1.0f / std::sqrt(ops::dot(x, x, n) / static_cast<float>(n) + eps);
      for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * scale * (1.0f + weight[i]);
      return;
    }
    case Norm::layer:
      return ops::layer_norm(x, weight, w.bias.data(), eps, n, out);
  }
}

/// Every row of x [rows, d]; out may be x.
inline void normalise(Norm norm, const NormWeights& w, float eps, View<const float> x, View<float> out,
                      const Threads& threads) {
  threads.run_rows(x.rows, x.cols, 4,
                   [&](std::size_t t) { normalise(norm, w, eps, x[t].data(), x.cols, out[t].data()); });
}

}  // namespace pith::inline nn
