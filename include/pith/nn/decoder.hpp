// SPDX-License-Identifier: MIT
// One forward pass of a decoder-only transformer over the new tokens of several sequences, forgetting as it goes.
#pragma once

#include <cstddef>
#include <stop_token>

#include "pith/nn/arch.hpp"
#include "pith/nn/attention.hpp"
#include "pith/nn/drop_gate.hpp"
#include "pith/nn/pass.hpp"
#include "pith/nn/rope.hpp"
#include "pith/prune/policy.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::inline nn {

/// The activations of a pass; memory is reused from pass to pass.
struct Workspace {
  Workspace(const Config& config, const prune::Needs& wanted) : attention(config, wanted), needs(wanted) {}

  Attention attention;
  prune::Needs needs;
  Tensor<float> x;        // [tokens, d_model] the residual stream
  Activations h;          // [tokens, d_model] its normalised form
  Tensor<float> q, k, v;  // [tokens, heads * head_dim]
  Activations attended;   // [tokens, n_heads * head_dim]
  Tensor<float> branch;   // [tokens, d_model] what a half of a block adds to x
  RopeTable rope;
  DropGate gate;
  MlpScratch mlp;
};

/// Appends the new tokens' rows to the lanes of layer `layer`.
void store(const Config& config, const Pass& pass, std::size_t layer, const Workspace& ws, const Threads& threads);

/// RMSNorm of each head of a row, where there are such weights (Qwen3).
inline void normalise_heads(const NormWeights& w, const Config& config, std::span<float> row) {
  if (w.weight.empty()) return;
  const auto dim = static_cast<std::size_t>(config.head_dim);
  for (float* head = row.data(); head != row.data() + row.size(); head += dim)
    RmsNorm::apply(w, config.norm_eps, head, dim, head);
}

/// x += y
inline void add(View<float> x, View<const float> y, const Threads& threads) {
  threads.run_rows(x.rows, x.cols, 1, [&](std::size_t t) { ops::add(x[t].data(), y[t].data(), x.cols); });
}

/// Calls f(segment, threads) for the sequences still alive: side by side, or one with all threads to itself.
/// `work` as in Threads::run.
template <class F>
void for_each_segment(const Pass& pass, const Threads& threads, std::size_t work, F&& f) {
  const bool alone = pass.segments.size() == 1;
  threads.run(alone ? 0 : pass.segments.size(), work, [&](std::size_t i) {
    if (pass.segments[i].cache != nullptr) f(pass.segments[i], Threads(1));
  });
  if (alone && pass.segments[0].cache != nullptr) f(pass.segments[0], threads);
}

/// Live rows of the pass's layer, over its sequences.
inline std::size_t rows_in(const Pass& pass) {
  std::size_t rows = 0;
  for (const Segment& segment : pass.segments)
    if (segment.cache != nullptr) rows += segment.cache->rows(pass.layer);
  return rows;
}

inline prune::Moment moment(const Config& config, const LayerWeights& w, const Segment& segment, const Workspace& ws,
                            const Threads& threads) {
  prune::Moment m{.n_layers = static_cast<std::size_t>(config.n_layers),
                  .first = segment.first,
                  .next = segment.next(),
                  .prompt_end = segment.prompt_end,
                  .gate = {},
                  .threads = &threads,
                  .scratch = segment.scratch};
  if (ws.needs.gate) m.gate = ws.gate.queries(w.drop_gate, *config.gate, segment.row, segment.count, segment.tau);
  return m;
}

/// Runs the pass from pass.layer on; false when stopped between two layers, to be gone on with by another call.
/// Then ws.x holds the residual stream of every token after the last layer.
template <class Arch>
bool forward(const Config& config, const Weights& weights, const prune::AnyPolicy& policy, Pass& pass, Workspace& ws,
             const Threads& threads, const std::stop_token& stop) {
  const std::size_t n = pass.tokens.size();
  const auto d = static_cast<std::size_t>(config.d_model);

  if (pass.layer == 0) {
    ws.x.resize(n, d);
    ws.branch.resize(n, d);
    ws.h.resize(n, d);
    ws.q.resize(n, static_cast<std::size_t>(config.d_query()));
    ws.k.resize(n, static_cast<std::size_t>(config.d_kv()));
    ws.v.resize(n, static_cast<std::size_t>(config.d_kv()));
    ws.attended.resize(n, static_cast<std::size_t>(config.d_query()));
    for (std::size_t t = 0; t < n; ++t) {
      weights.embedding.row(static_cast<std::size_t>(pass.tokens[t]), ws.x[t]);
      if constexpr (!Arch::rotary) {
        weights.positions.row(static_cast<std::size_t>(pass.positions[t]), ws.branch[t]);
        ops::add(ws.x[t].data(), ws.branch[t].data(), d);
      }
    }
    if constexpr (Arch::rotary) ws.rope.fill(config.rope, static_cast<std::size_t>(config.head_dim), pass.positions);
  }

  for (; pass.layer < weights.layers.size(); ++pass.layer) {
    if (stop.stop_requested()) return false;
    const LayerWeights& w = weights.layers[pass.layer];

    // Queries, keys, values, and the gate's own.
    normalise<typename Arch::Norm>(w.attention_norm, config.norm_eps, ws.x.view(), ws.h.values(), threads);
    ws.h.changed();
    const auto [gate_q, gate_k] = ws.gate.products(w.drop_gate, n);
    const Product products[] = {{w.wq.weight, ws.q.view(), w.wq.bias},
                                {w.wk.weight, ws.k.view(), w.wk.bias},
                                {w.wv.weight, ws.v.view(), w.wv.bias},
                                gate_q,
                                gate_k};
    matmul(std::span(products, ws.needs.gate ? 5 : 3), ws.h, threads);
    threads.run_rows(n, ws.q.cols() + ws.k.cols(), 4, [&](std::size_t t) {
      normalise_heads(w.q_norm, config, ws.q[t]);
      normalise_heads(w.k_norm, config, ws.k[t]);
      if constexpr (Arch::rotary) {
        ws.rope.rotate(config.rope.pairs, t, ws.q[t]);
        ws.rope.rotate(config.rope.pairs, t, ws.k[t]);
      }
    });

    // Remember, forget, attend, forget.
    const std::size_t judging = rows_in(pass) * (ws.needs.gate ? w.drop_gate.wk.rows() : 1);
    store(config, pass, pass.layer, ws, threads);
    for_each_segment(pass, threads, judging, [&](const Segment& segment, const Threads& inner) {
      const KvLayer layer = segment.cache->layer(pass.layer);
      policy.before_attention(layer, moment(config, w, segment, ws, inner));
      layer.reopen_kept(config.window(static_cast<int>(pass.layer)));
      layer.sweep(segment.first);
    });
    ws.attention(pass, ws.q.view(), ws.attended.values(), threads);
    ws.attended.changed();
    for_each_segment(pass, threads, judging, [&](const Segment& segment, const Threads& inner) {
      const KvLayer layer = segment.cache->layer(pass.layer);
      layer.sweep(segment.next());  // first, so that what is gone already is not judged
      policy.after_attention(layer, moment(config, w, segment, ws, inner));
    });
    matmul(w.wo.weight, ws.attended, ws.branch.view(), threads, w.wo.bias);
    add(ws.x.view(), ws.branch.view(), threads);

    normalise<typename Arch::Norm>(w.mlp_norm, config.norm_eps, ws.x.view(), ws.h.values(), threads);
    ws.h.changed();
    Arch::Mlp::apply(w, ws.h, ws.mlp, ws.branch.view(), threads);
    add(ws.x.view(), ws.branch.view(), threads);
  }
  return true;
}

}  // namespace pith::inline nn
