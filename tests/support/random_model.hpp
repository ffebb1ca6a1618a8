// SPDX-License-Identifier: MIT
// Small models of every architecture with random weights, whose attention is uneven and whose gates do drop.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nn/arch/family.hpp"
#include "pith/model.hpp"
#include "pith/nn/parameters.hpp"
#include "pith/tokenizer.hpp"
#include "support/random.hpp"

namespace pith::testing {

/// All that the library reads.
inline std::vector<Architecture> architectures() {
  std::vector<Architecture> all;
  for (const Family* family : families()) all.push_back(family->architecture);
  return all;
}

/// What a test wants to be so; the seed chooses the rest.
struct ModelSpec {
  std::uint64_t seed = 1;
  std::optional<Architecture> architecture = {};
  std::optional<Format> format = {};  // of the weights; default: f32
  std::optional<int> head_dim = {};   // a multiple of 32 for a q8_0 cache
  std::optional<int> n_layers = {};
  std::optional<float> gate_bias = {};  // higher keeps more; default: about a tenth to a half is kept
  int gate_recent = 0;                  // 0: the seed chooses
  GateScope gate_scope = GateScope::layer;
  int window = -1;  // sliding window, 0: none; default: Mistral's
  int context = 256;
  enum class Gate { yes, no } gate = Gate::yes;
  enum class Dms { no, yes } dms = Dms::no;  // about half of the rows leave, after a few tokens
  enum class Plans { of_architectures, any } plans = Plans::of_architectures;
  enum class Lanes { own, shared } lanes = Lanes::own;  // shared: the last layer reads the first, others may
};

namespace detail {

class ModelMaker {
 public:
  explicit ModelMaker(const ModelSpec& spec) : spec_(spec), random_(spec.seed) {}

  Model make() {
    shape();
    Weights w;
    w.layers.resize(config_.layers.size());
    for_each_parameter(config_, w, *this);
    return Model::create(config_, std::move(w));
  }

  /// Numbers of about 1 come out where numbers of about 1 go in; queries and keys are larger, so that attention is
  /// uneven.
  void operator()(const Parameter& p, Matrix& out) {
    const float gain = p.role == Role::wq || p.role == Role::wk || p.role == Role::router ? 1.5f : 1.0f;
    const float scale = p.role == Role::positions ? 0.5f
                        : p.layer                 ? gain / std::sqrt(static_cast<float>(p.cols))
                                                  : 1.0f;
    std::vector<float> values(p.numbers());
    for (float& value : values) value = scale * random_.normal();
    out = Matrix::encode(p.role == Role::router ? Format::f32 : format(), {values.data(), p.rows, p.cols});
  }
  void operator()(const Parameter& p, std::vector<float>& out) {
    if (p.role == Role::drop_gate_bias) return gate_biases(p, out);
    const float factor = p.role == Role::q_norm || p.role == Role::k_norm ? 1.2f : 1.0f;
    const float mean = p.suffix == ".bias" ? 0.0f : p.plus_one ? factor - 1 : factor;
    out.resize(p.rows);
    for (float& value : out) value = mean + 0.2f * random_.normal();
  }

 private:
  void gate_biases(const Parameter& p, std::vector<float>& out) {
    out.resize(p.rows);
    for (float& bias : out) {
      const float about = 1.2f + static_cast<float>(random_.uniform());
      bias = spec_.gate_bias ? *spec_.gate_bias : about + config_.gate->threshold;
    }
  }

  bool gpt2() const { return config_.architecture == Architecture::gpt2; }
  bool gemma() const { return is(Architecture::gemma2) || is(Architecture::gemma3); }
  bool is(Architecture architecture) const { return config_.architecture == architecture; }

  void shape() {
    Config& c = config_;
    const auto all = architectures();
    c.architecture = spec_.architecture
                         ? *spec_.architecture
                         : all[static_cast<std::size_t>(random_.integer(0, static_cast<int>(all.size()) - 1))];
    const bool llama = c.architecture == Architecture::llama;
    c.vocab_size = random_.integer(33, 97);
    const int n_layers = spec_.n_layers ? *spec_.n_layers : random_.integer(1, 3);
    c.n_kv_heads = random_.integer(1, 3);
    c.n_heads = c.n_kv_heads * (gpt2() ? 1 : random_.integer(1, 3));
    const int even = 2 * random_.integer(2, 12);
    c.head_dim = spec_.head_dim ? *spec_.head_dim : even;
    c.d_model = gpt2() ? c.d_query() : 32 * random_.integer(1, 3);
    c.d_ff = 32 * random_.integer(1, 5);
    c.context = spec_.context;
    c.norm_eps = random_.one_of({1e-5f, 1e-6f});
    LayerPlan plan;
    if (gpt2()) {
      plan = {.norm = Norm::layer, .mlp = Mlp::plain, .rope = -1};
      plan.activation = random_.one_of({Activation::gelu, Activation::gelu_tanh});
    }
    c.tied_head = gpt2() || random_.integer(0, 1) == 0;
    if (gemma()) {
      plan = {.norm = Norm::rms_plus_one, .post_norms = true, .activation = Activation::gelu_tanh, .query_scale = 0.3f};
      c.embedding_scale = std::sqrt(static_cast<float>(c.d_model));
    }
    if (is(Architecture::gemma2)) {
      plan.score_cap = random_.one_of({2.0f, 20.0f});
      c.logit_cap = random_.one_of({5.0f, 30.0f});
    }
    if (is(Architecture::olmo2)) plan = {.pre_norms = false, .post_norms = true, .qk_norm = QkNorm::all};
    if (is(Architecture::granite)) {
      plan.query_scale = 0.2f;
      c.embedding_scale = 3;
      c.residual_scale = 0.4f;
      c.logit_scale = 0.3f;
    }
    if (is(Architecture::mixtral) || is(Architecture::qwen3_moe)) {
      plan.experts.count = random_.integer(2, 5);
      plan.experts.chosen = random_.integer(1, std::min(3, plan.experts.count));
      plan.experts.renormalised = is(Architecture::mixtral) || random_.integer(0, 1) == 0;
    }
    plan.o_bias = gpt2() || (llama && random_.integer(0, 2) == 0);
    plan.qkv_bias = plan.o_bias || c.architecture == Architecture::qwen2;
    plan.mlp_bias = gpt2() || (llama && random_.integer(0, 2) == 0);
    if (is(Architecture::qwen3) || is(Architecture::qwen3_moe) || is(Architecture::gemma3)) plan.qk_norm = QkNorm::head;
    RopeConfig rope{.theta = random_.one_of({10000.0f, 1e6f}), .divisors = {}};
    c.rope_pairs = random_.one_of({RopePairs::halves, RopePairs::adjacent});
    if (block_values(format()) > 1) whole_blocks();
    if (!gpt2() && random_.integer(0, 2) == 0) divide(rope);
    if (is(Architecture::phi3)) stretch(rope);
    if (!gpt2()) c.ropes = {rope};
    if (is(Architecture::gemma3)) c.ropes.push_back({.theta = 1000.0f});
    c.final_norm = plan.norm;
    c.learned_positions = gpt2();
    c.layers.assign(static_cast<std::size_t>(n_layers), plan);

    const int chosen = random_.integer(5, 40);
    const int window = spec_.window >= 0 ? spec_.window : is(Architecture::mistral) || gemma() ? chosen : 0;
    for (std::size_t i = 0; i < c.layers.size(); ++i) {
      LayerPlan& layer = c.layers[i];
      layer.window = i % 3 == 1 ? 0 : window;
      if (is(Architecture::gemma3)) layer.rope = layer.window > 0 ? 1 : 0;
      if (is(Architecture::smollm3) && i % 2 == 1) layer.rope = -1;
      if (is(Architecture::qwen3_moe) && i % 3 == 2) layer.experts = {};
      if (is(Architecture::qwen3_moe) && i % 3 != 2) layer.d_ff = block_values(format()) > 32 ? 0 : 32;
    }
    if (spec_.gate == ModelSpec::Gate::yes) {
      const int recent = random_.integer(0, 1) == 0 ? 1 : random_.integer(2, 12);
      c.gate = DropGateConfig{.dim = random_.integer(3, 17),
                              .threshold = random_.one_of({0.0f, 0.25f, -0.5f}),
                              .recent = spec_.gate_recent > 0 ? spec_.gate_recent : recent,
                              .sinks = spec_.gate_bias ? 0 : std::max(0, random_.integer(-3, 4)),
                              .scope = spec_.gate_scope};
    }
    if (spec_.dms == ModelSpec::Dms::yes) c.dms = DmsConfig{.scale = 4, .offset = 0.2f, .window = 6};
    if (spec_.plans == ModelSpec::Plans::any) plan_freely();
    if (spec_.lanes == ModelSpec::Lanes::shared) share_lanes();
  }

  void divide(RopeConfig& rope) {
    for (int i = 0; i < config_.head_dim / 2; ++i)
      rope.divisors.push_back(1.0f + 7.0f * static_cast<float>(random_.uniform()));
  }

  /// A part of each head turns, and by other divisors than in a short session.
  void stretch(RopeConfig& rope) {
    rope.dim = config_.head_dim / 4 * 2;
    rope.magnitude = 1.1f;
    rope.original_context = 16;
    rope.divisors.clear();
    for (int i = 0; i < rope.dim / 2; ++i) {
      rope.divisors.push_back(1.0f + static_cast<float>(random_.uniform()));
      rope.long_divisors.push_back(2.0f + 7.0f * static_cast<float>(random_.uniform()));
    }
  }

  /// Every choice that a plan has, in each layer for itself.
  void plan_freely() {
    Config& c = config_;
    const auto coin = [&] { return random_.integer(0, 1) == 0; };
    const auto norm = [&] { return random_.one_of({Norm::rms, Norm::rms_plus_one, Norm::layer}); };
    c.ropes.resize(static_cast<std::size_t>(random_.integer(0, 3)));
    for (RopeConfig& rope : c.ropes) {
      rope = {.theta = random_.one_of({100.0f, 10000.0f, 1e6f}), .divisors = {}};
      if (coin()) divide(rope);
      if (random_.integer(0, 2) == 0 && c.head_dim >= 4) stretch(rope);
    }
    c.learned_positions = coin();
    c.final_norm = norm();
    c.embedding_scale = random_.one_of({1.0f, 3.0f});
    c.residual_scale = random_.one_of({1.0f, 0.4f});
    c.logit_scale = random_.one_of({1.0f, 0.3f});
    c.logit_cap = random_.one_of({0.0f, 5.0f});
    for (LayerPlan& plan : c.layers) {
      plan.norm = norm();
      plan.pre_norms = random_.integer(0, 2) > 0;
      plan.post_norms = !plan.pre_norms || coin();
      plan.qk_norm = random_.one_of({QkNorm::none, QkNorm::head, QkNorm::all});
      plan.qkv_bias = coin();
      plan.o_bias = coin();
      plan.mlp_bias = coin();
      plan.mlp = random_.one_of({Mlp::plain, Mlp::gated});
      plan.activation = random_.one_of({Activation::silu, Activation::gelu, Activation::gelu_tanh});
      plan.rope = random_.integer(-1, static_cast<int>(c.ropes.size()) - 1);
      plan.query_scale = random_.one_of({0.0f, 0.2f});
      plan.score_cap = random_.one_of({0.0f, 1.5f});
      plan.d_ff = block_values(format()) > 32 ? 0 : random_.one_of({0, 32, 96});
      plan.experts = {};
      if (random_.integer(0, 2) == 0) {
        plan.experts = {.count = random_.integer(1, 4), .chosen = 1, .renormalised = coin()};
        plan.experts.chosen = random_.integer(1, plan.experts.count);
      }
    }
  }

  void share_lanes() {
    auto& layers = config_.layers;
    for (std::size_t i = 1; i < layers.size(); ++i) {
      const auto from = i + 1 == layers.size() ? 0 : static_cast<std::size_t>(random_.integer(0, static_cast<int>(i)));
      if (from == i || layers[from].kv_from >= 0) continue;
      layers[i].kv_from = static_cast<int>(from);
      layers[i].window = layers[from].window;
      layers[i].rope = layers[from].rope;
    }
  }

  /// Every input of a projection is blocks of 32, or one of 256.
  void whole_blocks() {
    Config& c = config_;
    if (const int block = block_values(format()); block > 32) {
      c.n_kv_heads = gpt2() ? 4 : std::min(c.n_kv_heads, 2);
      c.n_heads = 4;
      c.head_dim = block / 4;
      c.d_model = c.d_ff = block;
    }
    c.head_dim = (c.head_dim + 31) / 32 * 32;
    if (gpt2()) c.d_model = c.d_query();
  }

  Format format() const { return spec_.format.value_or(Format::f32); }

  ModelSpec spec_;
  Random random_;
  Config config_;
};

}  // namespace detail

inline Model random_model(const ModelSpec& spec) { return detail::ModelMaker(spec).make(); }

inline std::vector<Token> random_tokens(std::uint64_t seed, const Config& config, std::size_t count) {
  Random random(seed);
  std::vector<Token> tokens(count);
  for (Token& token : tokens) token = random.integer(0, config.vocab_size - 1);
  return tokens;
}

/// "qwen3, 2 layers, 6 / 2 heads of 14, …": what a failing case was made of.
inline std::string describe(const Model& model) {
  const Config& c = model.config();
  std::string text = std::string(name(c.architecture)) + " in " + std::string(name(model.weights().head.format())) +
                     ", " + std::to_string(c.n_layers()) + " layers, " + std::to_string(c.n_heads) + " / " +
                     std::to_string(c.n_kv_heads) + " heads of " + std::to_string(c.head_dim) + ", d_model " +
                     std::to_string(c.d_model) + ", d_ff " + std::to_string(c.d_ff);
  for (const LayerPlan& plan : c.layers)
    text += ", layer of norm " + std::to_string(static_cast<int>(plan.norm)) + (plan.pre_norms ? "" : " not before") +
            (plan.post_norms ? " after" : "") + ", qk norm " + std::to_string(static_cast<int>(plan.qk_norm)) +
            ", rope " + std::to_string(plan.rope) + ", mlp " + std::to_string(static_cast<int>(plan.mlp)) + "." +
            std::to_string(static_cast<int>(plan.activation)) + ", window " + std::to_string(plan.window) +
            (plan.kv_from < 0 ? "" : ", keys and values of layer " + std::to_string(plan.kv_from)) +
            (plan.experts.count == 0 ? ""
                                     : ", " + std::to_string(plan.experts.chosen) + " of " +
                                           std::to_string(plan.experts.count) + " experts");
  if (c.gate)
    text += ", gate of a " + std::string(name(c.gate->scope)) + ", dim " + std::to_string(c.gate->dim) + " recent " +
            std::to_string(c.gate->recent) + " sinks " + std::to_string(c.gate->sinks);
  return text;
}

}  // namespace pith::testing
