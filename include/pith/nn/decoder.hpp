// SPDX-License-Identifier: MIT
// One forward pass of a decoder-only transformer over the new tokens of several sequences, forgetting as it goes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <stop_token>
#include <vector>

#include "pith/api.hpp"
#include "pith/nn/attention.hpp"
#include "pith/nn/config.hpp"
#include "pith/nn/drop_gate.hpp"
#include "pith/nn/mlp.hpp"
#include "pith/nn/norm.hpp"
#include "pith/nn/pass.hpp"
#include "pith/nn/rope.hpp"
#include "pith/nn/weights.hpp"
#include "pith/prune/policy.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::inline nn {

/// The activations of a pass; memory is reused from pass to pass.
struct Workspace {
  /// `longest`: the context of its sequences, 0 = what the model was made for.
  Workspace(const Config& config, const prune::Needs& wanted, std::size_t longest = 0)
      : attention(config, wanted),
        needs(wanted),
        context(longest > 0 ? longest : static_cast<std::size_t>(config.context)) {}

  /// Room for so many tokens; what was held is gone.
  void resize(const Config& config, std::size_t tokens) {
    x.resize(tokens, static_cast<std::size_t>(config.d_model));
    resize_layer(config, tokens);
  }

  /// The same, but for x, which keeps what it holds.
  void resize_layer(const Config& config, std::size_t tokens) {
    const auto dq = static_cast<std::size_t>(config.d_query()), dkv = static_cast<std::size_t>(config.d_kv());
    const auto d = static_cast<std::size_t>(config.d_model);
    h.resize(tokens, d);
    q.resize(tokens, dq);
    k.resize(tokens, dkv);
    v.resize(tokens, dkv);
    attended.resize(tokens, dq);
    branch.resize(tokens, d);
    if (config.dms) decisions.resize(tokens, static_cast<std::size_t>(config.n_kv_heads));
  }

  /// What of the residual stream is in the present layer.
  View<float> stream() { return x.view().rows_from(0, q.rows()); }

  Attention attention;
  prune::Needs needs;
  std::size_t context;
  Tensor<float> x;               // [tokens, d_model] the residual stream
  Activations h;                 // [tokens, d_model] its normalised form
  Tensor<float> q, k, v;         // [tokens, heads * head_dim]
  Activations attended;          // [tokens, n_heads * head_dim]
  Tensor<float> branch;          // [tokens, d_model] what a half of a layer adds to x
  Tensor<float> decisions;       // [tokens, n_kv_heads] of DmsConfig
  std::vector<RopeTable> ropes;  // of Config::ropes
  DropGate gate;
  MlpScratch mlp;
  Pass round;  // of the present layer
};

/// Throws SegmentError (unsupported) where a number is too large for the cache's format.
PITH_API void check_range(const Pass& pass, std::size_t layer, const Workspace& ws, const Threads& threads);

/// Appends the new tokens' rows to the lanes of layer `layer`.
PITH_API void store(const Config& config, const Pass& pass, std::size_t layer, const Workspace& ws,
                    const Threads& threads);

/// The numbers of a row, as many at a time as there are weights; none where there are no weights.
inline void normalise_heads(Norm norm, const NormWeights& w, float eps, std::span<float> row) {
  const std::size_t n = w.weight.size();
  for (std::size_t head = 0; n > 0 && head < row.size(); head += n)
    normalise(norm, w, eps, row.data() + head, n, row.data() + head);
}

/// Calls f(kv-head, number) for those of a token's queries that are DmsConfig's.
template <class F>
void for_each_decision(const Config& config, std::span<float> q, F&& f) {
  if (!config.dms) return;
  const auto dim = static_cast<std::size_t>(config.head_dim), group = dim * static_cast<std::size_t>(config.group());
  for (std::size_t head = 0; head * group < q.size(); ++head) f(head, q[head * group + dim - 1]);
}

/// x += scale * y, which is scaled in place
inline void add(View<float> x, View<float> y, float scale, const Threads& threads) {
  threads.run_rows(x.rows, x.cols, 1, [&](std::size_t t) {
    if (scale != 1) ops::scale(y[t].data(), scale, y.cols);
    ops::add(x[t].data(), y[t].data(), x.cols);
  });
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

/// Live rows of a layer, over the pass's sequences.
inline std::size_t rows_in(const Pass& pass, std::size_t layer) {
  std::size_t rows = 0;
  for (const Segment& segment : pass.segments)
    if (segment.cache != nullptr) rows += segment.cache->rows(layer);
  return rows;
}

/// Where the pass stands in a layer, apart from what only the layer's own turn knows.
inline prune::Moment moment(const Config& config, const LayerPlan& plan, const LayerWeights& w, const Segment& segment,
                            const Workspace& ws, const Threads& threads) {
  prune::Moment m{.n_layers = config.layers.size(),
                  .first = segment.first,
                  .next = segment.next(),
                  .prompt_begin = segment.prompt_begin,
                  .prompt_end = segment.prompt_end,
                  .gate = {},
                  .group = static_cast<std::size_t>(config.group()),
                  .query_scale = config.query_scale_of(plan),
                  .score_cap = plan.score_cap,
                  .wo = &w.wo.weight,
                  .threads = threads,
                  .scratch = segment.scratch};
  if (plan.rope >= 0) {
    const auto rope = static_cast<std::size_t>(plan.rope);
    m.rotation = {ws.ropes[rope].frequencies(), config.ropes[rope].magnitude, config.rope_pairs == RopePairs::adjacent};
  }
  return m;
}

/// The same in the layer's own turn, with its input, the queries and the gate's.
inline prune::Moment moment_of_turn(const Config& config, const LayerPlan& plan, const LayerWeights& w,
                                    const Segment& segment, const Workspace& ws, const Threads& threads) {
  prune::Moment m = moment(config, plan, w, segment, ws, threads);
  m.q = ws.q.view().rows_from(segment.row, segment.count);
  m.input = ws.h.values().rows_from(segment.row, segment.count);
  if (config.dms) m.decisions = {ws.decisions.view().rows_from(segment.row, segment.count), config.dms->window};
  if (ws.needs.gate) m.gate = ws.gate.queries(w.drop_gate, *config.gate, segment.row, segment.count, segment.tau);
  return m;
}

/// The policy judges the layers that see everything, together, of the segments that are through with all layers.
inline void judge_layers(const Config& config, const Weights& weights, const prune::AnyPolicy& policy, const Pass& pass,
                         Workspace& ws, const Threads& threads) {
  ws.round.segments = pass.segments;
  for (Segment& segment : ws.round.segments)
    if (segment.row >= pass.stage.row && pass.stage.end < config.layers.size()) segment.cache = nullptr;
  for_each_segment(
      ws.round, threads, rows_in(ws.round, 0) * config.layers.size(),
      [&](const Segment& segment, const Threads& inner) {
        auto& layers = segment.scratch->layers;
        layers.clear();
        for (std::size_t l = 0; l < config.layers.size(); ++l)
          if (const LayerPlan& plan = config.layers[l]; plan.window == 0 && plan.kv_from < 0)
            layers.push_back({segment.cache->layer(l), moment(config, plan, weights.layers[l], segment, ws, inner)});
        policy.after_pass(layers);
        for (std::size_t l = 0; l < config.layers.size(); ++l) segment.cache->sweep(l, segment.next());
      });
}

/// x = the tokens' embeddings, or what a segment has in their place, and what turns queries and keys at their
/// positions.
inline void embed(const Config& config, const Weights& weights, const Pass& pass, Workspace& ws) {
  const auto d = static_cast<std::size_t>(config.d_model);
  ws.resize(config, pass.positions.size());
  ws.round.positions = pass.positions;
  for (const Segment& segment : pass.segments)
    for (std::size_t i = 0; i < segment.count; ++i) {
      const std::size_t t = segment.row + i;
      if (segment.stream.rows > 0) {
        std::ranges::copy(segment.stream[i], ws.x[t].begin());
        continue;
      }
      if (segment.embeddings.rows > 0)
        std::ranges::copy(segment.embeddings[i], ws.x[t].begin());
      else
        weights.embedding.row(static_cast<std::size_t>(pass.tokens[t]), ws.x[t]);
      if (config.embedding_scale != 1) ops::scale(ws.x[t].data(), config.embedding_scale, d);
      if (!config.learned_positions) continue;
      weights.positions.row(static_cast<std::size_t>(pass.positions[t]), ws.branch[t]);
      ops::add(ws.x[t].data(), ws.branch[t].data(), d);
    }
  ws.ropes.resize(config.ropes.size());
  for (std::size_t i = 0; i < ws.ropes.size(); ++i)
    ws.ropes[i].fill(config.ropes[i], static_cast<std::size_t>(config.head_dim), pass.positions, ws.context);
}

/// h = what a half of a layer reads: x, normalised where the plan says so.
inline void read_stream(const Config& config, const LayerPlan& plan, const NormWeights& norm, Workspace& ws,
                        const Threads& threads) {
  const View<float> h = ws.h.values();
  if (plan.pre_norms) {
    normalise(plan.norm, norm, config.norm_eps, ws.stream(), h, threads);
  } else {
    for (std::size_t t = 0; t < h.rows; ++t) std::ranges::copy(ws.x[t], h[t].begin());
  }
  ws.h.changed();
}

/// x += what a half of a layer has come to, normalised where the plan says so.
inline void add_to_stream(const Config& config, const LayerPlan& plan, const NormWeights& norm, Workspace& ws,
                          const Threads& threads) {
  const View<float> branch = ws.branch.view();
  if (plan.post_norms) normalise(plan.norm, norm, config.norm_eps, branch, branch, threads);
  add(ws.stream(), branch, config.residual_scale, threads);
}

/// Runs the pass from pass.layer on; false when stopped between two layers, to be gone on with by another call.
/// Then ws.x holds the residual stream of every token after the last layer that it goes through.
inline bool forward(const Config& config, const Weights& weights, const prune::AnyPolicy& policy, Pass& pass,
                    Workspace& ws, const Threads& threads, const std::stop_token& stop) {
  if (pass.layer == 0) embed(config, weights, pass, ws);

  for (; pass.layer < config.layers.size(); ++pass.layer) {
    if (stop.stop_requested()) return false;
    const std::size_t n = pass.rows();
    if (n == 0) continue;
    ws.resize_layer(config, n);
    const LayerPlan& plan = config.layers[pass.layer];
    const LayerWeights& w = weights.layers[pass.layer];
    // A layer that reads the keys and values of another remembers nothing; what they share is judged once, by what the
    // owner's gate and weights say, and after the last of its readers has attended.
    const std::size_t owner = config.kv_owner(pass.layer);
    const bool remembers = owner == pass.layer, forgets = config.kv_last_reader(pass.layer) == pass.layer;

    // Queries, keys, values, and the gate's own.
    read_stream(config, plan, w.attention_norm, ws, threads);
    const auto [gate_q, gate_k] = ws.gate.products(weights.layers[owner].drop_gate, n);
    const Product products[] = {{w.wq.weight, ws.q.view(), w.wq.bias},
                                {w.wk.weight, ws.k.view(), w.wk.bias},
                                {w.wv.weight, ws.v.view(), w.wv.bias},
                                gate_q,
                                gate_k};
    matmul(std::span(products, !remembers ? 1 : ws.needs.gate ? 5 : 3), ws.h, threads);
    threads.run_rows(n, ws.q.cols() + ws.k.cols(), 4, [&](std::size_t t) {
      normalise_heads(plan.norm, w.q_norm, config.norm_eps, ws.q[t]);
      if (remembers) normalise_heads(plan.norm, w.k_norm, config.norm_eps, ws.k[t]);
      for_each_decision(config, ws.q[t], [&](std::size_t head, float& number) {
        ws.decisions[t][head] = config.dms->scale * number - config.dms->offset;
        number = 0;
      });
      if (plan.rope < 0) return;
      const RopeTable& rope = ws.ropes[static_cast<std::size_t>(plan.rope)];
      rope.rotate(config.rope_pairs, t, ws.q[t]);
      for_each_decision(config, ws.q[t], [](std::size_t, float& number) { number = 0; });
      if (remembers) rope.rotate(config.rope_pairs, t, ws.k[t]);
    });

    // Remember, forget, attend, forget.
    if (remembers) check_range(pass, pass.layer, ws, threads);
    for (std::size_t round = 0; round < pass.rounds(); ++round) {
      const Pass& now = ws.round;
      pass.take_round(round, ws.round);
      const std::size_t judging =
          rows_in(now, pass.layer) * (ws.needs.gate ? static_cast<std::size_t>(config.gate->dim) : 1);
      const LayerWeights& judge = weights.layers[owner];
      if (remembers) {
        store(config, now, pass.layer, ws, threads);
        for_each_segment(now, threads, judging, [&](const Segment& segment, const Threads& inner) {
          policy.before_attention(segment.cache->layer(pass.layer),
                                  moment_of_turn(config, plan, judge, segment, ws, inner));
          segment.cache->sweep(pass.layer, segment.first);
        });
      }
      ws.attention(now, ws.q.view(), ws.attended.values(), threads);
      if (!forgets) continue;
      for_each_segment(now, threads, judging, [&](const Segment& segment, const Threads& inner) {
        const prune::Moment at = moment_of_turn(config, plan, judge, segment, ws, inner);
        segment.cache->sweep(pass.layer, segment.next());  // first, so that what is gone already is not judged
        if (segment.stay != nullptr && pass.layer + 1 == pass.stage.end)
          policy.narrow(segment.cache->layer(pass.layer), at, *segment.stay);
        policy.after_attention(segment.cache->layer(pass.layer), at);
        segment.cache->sweep(pass.layer, segment.next());
      });
    }
    ws.attended.changed();
    matmul(w.wo.weight, ws.attended, ws.branch.view(), threads, w.wo.bias);
    add_to_stream(config, plan, w.post_attention_norm, ws, threads);

    read_stream(config, plan, w.mlp_norm, ws, threads);
    feed_forward(plan, w, ws.h, ws.mlp, ws.branch.view(), threads);
    add_to_stream(config, plan, w.post_mlp_norm, ws, threads);
  }
  if (ws.needs.after_pass) judge_layers(config, weights, policy, pass, ws, threads);
  return true;
}

/// out[i] = the logits [vocab_size] of row i of h [rows, d_model], rows of the residual stream after the last layer;
/// they are normalised in place.
inline void unembed(const Config& config, const Weights& weights, Activations& h, View<float> out,
                    const Threads& threads) {
  normalise(config.final_norm, weights.final_norm, config.norm_eps, h.values(), h.values(), threads);
  h.changed();
  matmul(weights.head, h, out, threads);
  if (config.logit_scale == 1 && config.logit_cap == 0) return;
  threads.run_rows(out.rows, out.cols, activation_cost, [&](std::size_t t) {
    if (config.logit_scale != 1) ops::scale(out[t].data(), config.logit_scale, out.cols);
    if (config.logit_cap != 0) ops::soft_cap(out[t].data(), config.logit_cap, out.cols);
  });
}

}  // namespace pith::inline nn
