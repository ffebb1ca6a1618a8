// SPDX-License-Identifier: MIT
// The feed-forward half of a block: one MLP, or the few that a router chooses for each token.
#pragma once

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <vector>

#include "pith/nn/config.hpp"
#include "pith/nn/weights.hpp"
#include "pith/tensor/matrix.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::inline nn {

inline constexpr std::size_t activation_cost = 16;  // as many multiply-adds as one takes

/// That a token goes through an expert, and by how much its result counts.
struct Choice {
  std::size_t expert, token;
  float weight;
};

struct MlpScratch {
  Activations hidden;           // [tokens, d_ff]
  Tensor<float> up;             // [tokens, d_ff]
  Tensor<float> routes;         // [tokens, experts] the router's softmax
  std::vector<Choice> choices;  // of all tokens, expert by expert
  Activations gathered;         // [tokens of an expert, d_model] what it reads
  Tensor<float> made;           // [tokens of an expert, d_model] what it makes of it
};

/// x = act(x)
inline void activate(Activation activation, float* x, std::size_t n) {
  switch (activation) {
    case Activation::silu:
      return ops::silu(x, n);
    case Activation::gelu:
      return ops::gelu(x, n);
    case Activation::gelu_tanh:
      return ops::gelu_tanh(x, n);
  }
}

/// x = act(x) * up
inline void activate_and_multiply(Activation activation, float* x, const float* up, std::size_t n) {
  switch (activation) {
    case Activation::silu:
      return ops::silu_multiply(x, up, n);
    case Activation::gelu:
      return ops::gelu_multiply(x, up, n);
    case Activation::gelu_tanh:
      return ops::gelu_tanh_multiply(x, up, n);
  }
}

/// out = what one MLP makes of h, both [tokens, d_model].
inline void run_mlp(const LayerPlan& plan, const MlpWeights& w, Activations& h, MlpScratch& scratch, View<float> out,
                    const Threads& threads) {
  scratch.hidden.resize(out.rows, w.up.weight.rows());
  const View<float> hidden = scratch.hidden.values();
  if (plan.mlp == Mlp::gated) {
    scratch.up.resize(hidden.rows, hidden.cols);
    matmul({{w.gate.weight, hidden, w.gate.bias}, {w.up.weight, scratch.up.view(), w.up.bias}}, h, threads);
    threads.run_rows(hidden.rows, hidden.cols, activation_cost, [&](std::size_t t) {
      activate_and_multiply(plan.activation, hidden[t].data(), scratch.up[t].data(), hidden.cols);
    });
  } else {
    matmul(w.up.weight, h, hidden, threads, w.up.bias);
    threads.run_rows(hidden.rows, hidden.cols, activation_cost,
                     [&](std::size_t t) { activate(plan.activation, hidden[t].data(), hidden.cols); });
  }
  scratch.hidden.changed();
  matmul(w.down.weight, scratch.hidden, out, threads, w.down.bias);
}

/// Which experts each row of h goes through, expert by expert.
inline void choose_experts(const Experts& experts, const Matrix& router, Activations& h, MlpScratch& scratch,
                           const Threads& threads) {
  const std::size_t tokens = h.values().rows, count = router.rows();
  const auto chosen = static_cast<std::size_t>(experts.chosen);
  scratch.routes.resize(tokens, count);
  matmul(router, h, scratch.routes.view(), threads);
  scratch.choices.clear();
  for (std::size_t t = 0; t < tokens; ++t) {
    float* const route = scratch.routes[t].data();
    ops::scale(route, 1.0f / ops::exp_shifted(route, ops::max(route, count), count), count);
    const std::size_t first = scratch.choices.size();
    for (std::size_t e = 0; e < count; ++e) scratch.choices.push_back({e, t, route[e]});
    const auto begin = scratch.choices.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = begin + static_cast<std::ptrdiff_t>(chosen);
    std::partial_sort(begin, end, scratch.choices.end(), [](const Choice& a, const Choice& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.expert < b.expert;
    });
    scratch.choices.resize(first + chosen);
    if (!experts.renormalised) continue;
    float sum = 0;
    for (auto choice = begin; choice != end; ++choice) sum += choice->weight;
    for (auto choice = begin; choice != end; ++choice) choice->weight /= sum;
  }
  std::ranges::sort(scratch.choices, {}, [](const Choice& choice) { return std::tuple(choice.expert, choice.token); });
}

/// out = the sum of what its experts make of each row of h. An expert that no token has chosen is not read. A token's
/// experts are added in their order, whatever other tokens there are.
inline void run_experts(const LayerPlan& plan, const LayerWeights& w, Activations& h, MlpScratch& scratch,
                        View<float> out, const Threads& threads) {
  choose_experts(plan.experts, w.router, h, scratch, threads);
  // Room for all tokens at once, so that later passes find it whatever they choose.
  scratch.gathered.resize(out.rows, out.cols);
  scratch.made.resize(out.rows, out.cols);
  scratch.hidden.resize(out.rows, w.experts.front().up.weight.rows());
  scratch.up.resize(out.rows, w.experts.front().up.weight.rows());
  for (std::size_t t = 0; t < out.rows; ++t) std::ranges::fill(out[t], 0.0f);
  const std::vector<Choice>& choices = scratch.choices;
  for (std::size_t begin = 0, end = 0; begin < choices.size(); begin = end) {
    while (end < choices.size() && choices[end].expert == choices[begin].expert) ++end;
    scratch.gathered.resize(end - begin, out.cols);
    scratch.made.resize(end - begin, out.cols);
    for (std::size_t i = begin; i < end; ++i)
      std::ranges::copy(h.values()[choices[i].token], scratch.gathered.values()[i - begin].begin());
    scratch.gathered.changed();
    run_mlp(plan, w.experts[choices[begin].expert], scratch.gathered, scratch, scratch.made.view(), threads);
    threads.run_rows(end - begin, out.cols, 2, [&](std::size_t i) {
      float* const made = scratch.made[i].data();
      ops::scale(made, choices[begin + i].weight, out.cols);
      ops::add(out[choices[begin + i].token].data(), made, out.cols);
    });
  }
}

/// out = what the plan's MLP, or its experts, make of h, both [tokens, d_model].
inline void feed_forward(const LayerPlan& plan, const LayerWeights& w, Activations& h, MlpScratch& scratch,
                         View<float> out, const Threads& threads) {
  if (plan.experts.count > 0) return run_experts(plan, w, h, scratch, out, threads);
  run_mlp(plan, w.mlp, h, scratch, out, threads);
}

}  // namespace pith::inline nn
