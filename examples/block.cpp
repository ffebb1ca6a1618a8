// SPDX-License-Identifier: MIT
// block: a layer that no model here has, put together from the library's parts. Attention and MLP read the same norm,
// side by side (as in PaLM, arXiv 2204.02311), and a gate of random weights forgets.
#include <pith/nn/decoder.hpp>
#include <pith/nn/parameters.hpp>
#include <pith/prune/methods.hpp>

#include <algorithm>
#include <functional>
#include <iostream>
#include <random>

using namespace pith;

void block(const Config& config, const LayerWeights& w, const prune::AnyPolicy& policy, const Pass& pass, Workspace& ws,
           const Threads& threads) {
  normalise(config.layers[0].norm, w.attention_norm, config.norm_eps, ws.x.view(), ws.h.values(), threads);
  ws.h.changed();
  const auto [gate_q, gate_k] = ws.gate.products(w.drop_gate, pass.segments[0].count);
  matmul({{w.wq.weight, ws.q.view()}, {w.wk.weight, ws.k.view()}, {w.wv.weight, ws.v.view()}, gate_q, gate_k}, ws.h,
         threads);
  store(config, pass, 0, ws, threads);
  policy.before_attention(pass.segments[0].cache->layer(0),
                          moment_of_turn(config, config.layers[0], w, pass.segments[0], ws, threads));
  ws.attention(pass, ws.q.view(), ws.attended.values(), threads);
  ws.attended.changed();
  pass.segments[0].cache->sweep(0, pass.segments[0].next());
  matmul(w.wo.weight, ws.attended, ws.branch.view(), threads);
  add(ws.x.view(), ws.branch.view(), 1, threads);
  feed_forward(config.layers[0], w, ws.h, ws.mlp, ws.branch.view(), threads);
  add(ws.x.view(), ws.branch.view(), 1, threads);
}

int main() {
  Config config{.d_model = 64, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .d_ff = 128, .layers = {{.rope = -1}}};
  config.gate = DropGateConfig{.dim = 8, .threshold = -1, .recent = 4};
  auto random = [engine = std::mt19937(1)]() mutable { return static_cast<float>(engine()) * 0x1p-33f - 0.25f; };
  LayerWeights w;
  for_each_parameter(config, 0, w, [&](const Parameter& p, auto& kept) {
    std::vector<float> values(p.numbers(), 1);
    if (p.cols > 0) std::ranges::generate(values, std::ref(random));
    if constexpr (std::is_same_v<decltype(kept), Matrix&>)
      kept = Matrix::encode(Format::f32, {values.data(), p.rows, p.cols});
    else
      kept = values;
  });
  const prune::AnyPolicy policy = prune::learned_gate();
  const KvLayouts layouts{PageLayout({.heads = 2, .head_dim = 16, .gate_dim = 8})};
  PagePool pool(0);
  KvCache cache(layouts, pool, 1, 1, 256, DropLog::Keep::counts);
  Workspace ws(config, policy.needs());
  Pass pass{{}, {}, {{.cache = &cache, .count = 1}}};
  ws.resize(config, 1);
  for (Position t = 0; t < 256; ++t) {
    std::ranges::generate(ws.x[0], std::ref(random));
    pass.positions = {pass.segments[0].first = t};
    block(config, w, policy, pass, ws, Threads(1));
  }
  std::cout << "256 tokens, of which " << cache.rows(0) << " are remembered\n";
}
