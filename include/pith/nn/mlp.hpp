// SPDX-License-Identifier: MIT
// The feed-forward half of a block, as types: its kind and its activation.
#pragma once

#include "pith/nn/weights.hpp"
#include "pith/tensor/matrix.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::inline nn {

struct GeluTanh {
  static void apply(float* x, std::size_t n) { ops::gelu_tanh(x, n); }
};
struct Gelu {
  static void apply(float* x, std::size_t n) { ops::gelu(x, n); }
};
struct Silu {
  static void apply_and_multiply(float* x, const float* up, std::size_t n) { ops::silu_multiply(x, up, n); }
};

inline constexpr std::size_t activation_cost = 16;  // as many multiply-adds as one takes

struct MlpScratch {
  Activations hidden;  // [tokens, d_ff]
  Tensor<float> up;    // [tokens, d_ff], gated only
};

/// out = act(h W_up) W_down
template <class Act>
struct Plain {
  static constexpr bool gated = false;
  static void apply(const LayerWeights& w, Activations& h, MlpScratch& scratch, View<float> out,
                    const Threads& threads) {
    scratch.hidden.resize(out.rows, w.up.weight.rows());
    matmul(w.up.weight, h, scratch.hidden.values(), threads, w.up.bias);
    const View<float> hidden = scratch.hidden.values();
    threads.run_rows(hidden.rows, hidden.cols, activation_cost,
                     [&](std::size_t t) { Act::apply(hidden[t].data(), hidden.cols); });
    scratch.hidden.changed();
    matmul(w.down.weight, scratch.hidden, out, threads, w.down.bias);
  }
};

/// out = (act(h W_gate) * h W_up) W_down (Shazeer, arXiv 2002.05202)
template <class Act>
struct Gated {
  static constexpr bool gated = true;
  static void apply(const LayerWeights& w, Activations& h, MlpScratch& scratch, View<float> out,
                    const Threads& threads) {
    scratch.hidden.resize(out.rows, w.gate.weight.rows());
    scratch.up.resize(out.rows, w.up.weight.rows());
    matmul({{w.gate.weight, scratch.hidden.values(), w.gate.bias}, {w.up.weight, scratch.up.view(), w.up.bias}}, h,
           threads);
    const View<float> hidden = scratch.hidden.values();
    threads.run_rows(hidden.rows, hidden.cols, activation_cost, [&](std::size_t t) {
      Act::apply_and_multiply(hidden[t].data(), scratch.up[t].data(), hidden.cols);
    });
    scratch.hidden.changed();
    matmul(w.down.weight, scratch.hidden, out, threads, w.down.bias);
  }
};

}  // namespace pith::inline nn
