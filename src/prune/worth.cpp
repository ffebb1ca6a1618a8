// SPDX-License-Identifier: MIT
#include "pith/prune/worth.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "pith/error.hpp"
#include "pith/prune/spelling.hpp"
#include "pith/tensor/ops.hpp"

namespace pith::prune {

namespace {

constexpr float norm_eps = 1e-6f;  // of the authors' RMS norms

/// What the tokens of a pass are worth: [token, kv-head], in memory of the moment's scratch.
struct Weigh {
  const Moment& moment;
  Scratch& scratch = *moment.scratch;
  std::size_t tokens = moment.input.rows;

  View<const float> operator()(const LinearWorth& gate) const { return through(gate, scratch.input, 0); }

  View<const float> operator()(const MlpWorth& gate) const {
    scratch.hidden.resize(tokens, gate.hidden.weight.rows());
    const View<float> hidden = scratch.hidden.values();
    matmul(gate.hidden.weight, scratch.input, hidden, moment.threads, gate.hidden.bias);
    for (std::size_t t = 0; t < tokens; ++t) ops::gelu(hidden[t].data(), hidden.cols);
    scratch.hidden.changed();
    return through(gate.out, scratch.hidden, 0);
  }

  View<const float> operator()(const SinkWorth& gate) const {
    const std::size_t dim = gate.dim(), heads = gate.keys.rows() / dim, groups = gate.bias.size() / heads,
                      sinks = gate.sinks.size() / (heads * dim);
    const View<float> q = through(gate.queries, scratch.input, 0);
    scratch.products[1].resize(tokens, gate.keys.rows());
    const View<float> k = scratch.products[1].view();
    matmul(gate.keys, scratch.input, k, moment.threads);
    const float scale = 1 / std::sqrt(static_cast<float>(dim));
    scratch.block.resize(heads);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t i = 0; i < q.cols; i += dim)
        ops::rms_norm(&q[t][i], gate.q_norm.data(), norm_eps, dim, &q[t][i]);
      for (std::size_t h = 0; h < heads; ++h) {
        float* const key = &k[t][h * dim];
        ops::rms_norm(key, gate.k_norm.data(), norm_eps, dim, key);
        float sum = 0;
        for (std::size_t g = 0; g < groups; ++g) {
          const float* const query = &q[t][(h * groups + g) * dim];
          const float logit = ops::dot(key, query, dim) * scale + gate.bias[h * groups + g];
          float others = 1;
          for (std::size_t s = 0; s < sinks; ++s)
            others += std::exp(ops::dot(&gate.sinks[(h * sinks + s) * dim], query, dim) * scale - logit);
          sum += 1 / others;
        }
        scratch.block[h] = sum / static_cast<float>(groups);
      }
      // The keys have been read: their first numbers make room for what they came to.
      std::ranges::copy(scratch.block, k[t].begin());
    }
    return View<const float>(k).cols_from(0, heads);
  }

 private:
  View<float> through(const LinearWorth& gate, Activations& x, std::size_t which) const {
    scratch.products[which].resize(tokens, gate.weight.rows());
    const View<float> out = scratch.products[which].view();
    matmul(gate.weight, x, out, moment.threads, gate.bias);
    return out;
  }
};

/// What rows of a pass are worth, [token, kv-head], in their columns; then then(row, worth).
template <class F>
void remember(const KvLayer& layer, const Moment& moment, View<const float> worth, F&& then) {
  const auto lanes = layer.lanes();
  for (std::size_t l = 0; l < lanes.size(); ++l) {
    const Lane& lane = lanes[l];
    const Slot slot = lane.slot(worth_column);
    // The rows of this pass were appended last.
    for (std::size_t i = lane.rows(); i-- > 0 && lane.born(i) >= moment.first;) {
      const Row row = lane.row(i);
      row.evidence(slot) = worth[static_cast<std::size_t>(row.born() - moment.first)][lanes.number(l)];
      then(row, row.evidence(slot));
    }
  }
}

struct WorthGate {
  std::shared_ptr<const WorthGates> gates;
  WorthGateOptions options;
  Prefill prefill;

  Needs needs() const {
    return {.lane_per_head = true,
            .evidence = worth_column,
            .made_for = {{gates->file, gates->layers.size(), gates->kv_heads(), gates->d_model()}}};
  }

  void before_attention(const KvLayer& layer, const Moment& moment) const {
    Activations& input = moment.scratch->input;
    input.resize(moment.input.rows, moment.input.cols);
    for (std::size_t t = 0; t < moment.input.rows; ++t) std::ranges::copy(moment.input[t], input.values()[t].begin());
    input.changed();
    const View<const float> worth = std::visit(Weigh{moment}, gates->layers[layer.layer()]);
    const bool closes = prefill == Prefill::sparse || !moment.reads_prompt();
    remember(layer, moment, worth, [&](const Row& row, float worth_of_row) {
      if (closes) judge(row, worth_of_row, moment.first);
    });
  }

  void after_attention(const KvLayer& layer, const Moment& moment) const {
    if (prefill == Prefill::sparse || !moment.ends_prompt()) return;
    for (const Lane& lane : layer.lanes()) {
      const Slot slot = lane.slot(worth_column);
      for (std::size_t row = 0; row < lane.rows(); ++row)
        if (lane.born(row) >= moment.prompt_begin) judge(lane.row(row), lane.evidence(slot, row), moment.next);
    }
  }

  /// `next`: whoever came before it has seen the row.
  void judge(const Row& row, float worth, Position next) const {
    if (row.born() >= options.sinks && worth < options.threshold)
      row.close(std::max(next, row.born() + options.window + 1));
  }

  std::string describe() const {
    if (gates->file.empty()) return "[worth_gate]";  // there is nothing to read it from again
    return spell("worth_gate", {{"file", gates->file},
                                {"prefill", std::string(prefill == Prefill::dense ? "dense" : "sparse")},
                                {"threshold", options.threshold},
                                {"window", options.window},
                                {"sinks", options.sinks}});
  }
};

}  // namespace

std::size_t WorthGates::kv_heads() const {
  return std::visit(
      [](const auto& gate) {
        using G = std::remove_cvref_t<decltype(gate)>;
        if constexpr (std::is_same_v<G, LinearWorth>) return gate.weight.rows();
        if constexpr (std::is_same_v<G, MlpWorth>) return gate.out.weight.rows();
        if constexpr (std::is_same_v<G, SinkWorth>) return gate.keys.rows() / gate.dim();
      },
      layers.front());
}

std::size_t WorthGates::d_model() const {
  return std::visit(
      [](const auto& gate) {
        using G = std::remove_cvref_t<decltype(gate)>;
        if constexpr (std::is_same_v<G, LinearWorth>) return gate.weight.cols();
        if constexpr (std::is_same_v<G, MlpWorth>) return gate.hidden.weight.cols();
        if constexpr (std::is_same_v<G, SinkWorth>) return gate.keys.cols();
      },
      layers.front());
}

AnyPolicy worth_gate(WorthGates gates, const WorthGateOptions& o, Prefill prefill) {
  check("worth_gate", o);
  require(!gates.layers.empty(), ErrorCode::argument, "worth_gate: expected a gate for each layer, found none");
  return WorthGate{std::make_shared<const WorthGates>(std::move(gates)), o, prefill};
}

}  // namespace pith::prune
