// SPDX-License-Identifier: MIT
// The feed-forward half of a block.
#pragma once

#include <cmath>
#include <cstddef>

#include "pith/nn/config.hpp"
#include "pith/nn/weights.hpp"
#include "pith/tensor/matrix.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::inline nn {

inline constexpr std::size_t activation_cost = 16;  // as many multiply-adds as one takes

struct MlpScratch {
  Activations hidden;  // [tokens, d_ff]
  Tensor<float> up;    // [tokens, d_ff]
};

/// x = act(x)
inline void activate(Activation activation, float* x, std::size_t n) {
  switch (activation) {
    case Activation::silu:
      for (std::size_t i = 0; i < n; ++i) x[i] = x[i] / (1.0f + std::exp(-x[i]));
      return;
    case Activation::gelu:
      return ops::gelu(x, n);
    case Activation::gelu_tanh:
      return ops::gelu_tanh(x, n);
  }
}

/// x = act(x) * up
inline void activate_and_multiply(Activation activation, float* x, const float* up, std::size_t n) {
  if (activation == Activation::silu) return ops::silu_multiply(x, up, n);
  activate(activation, x, n);
  for (std::size_t i = 0; i < n; ++i) x[i] *= up[i];
}

/// out = what the plan's MLP makes of h, both [tokens, d_model].
inline void feed_forward(const LayerPlan& plan, const LayerWeights& w, Activations& h, MlpScratch& scratch,
                         View<float> out, const Threads& threads) {
  scratch.hidden.resize(out.rows, w.mlp_up.weight.rows());
  const View<float> hidden = scratch.hidden.values();
  if (plan.mlp == Mlp::gated) {
    scratch.up.resize(hidden.rows, hidden.cols);
    matmul({{w.mlp_gate.weight, hidden, w.mlp_gate.bias}, {w.mlp_up.weight, scratch.up.view(), w.mlp_up.bias}}, h,
           threads);
    threads.run_rows(hidden.rows, hidden.cols, activation_cost, [&](std::size_t t) {
      activate_and_multiply(plan.activation, hidden[t].data(), scratch.up[t].data(), hidden.cols);
    });
  } else {
    matmul(w.mlp_up.weight, h, hidden, threads, w.mlp_up.bias);
    threads.run_rows(hidden.rows, hidden.cols, activation_cost,
                     [&](std::size_t t) { activate(plan.activation, hidden[t].data(), hidden.cols); });
  }
  scratch.hidden.changed();
  matmul(w.mlp_down.weight, scratch.hidden, out, threads, w.mlp_down.bias);
}

}  // namespace pith::inline nn
