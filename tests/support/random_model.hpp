// SPDX-License-Identifier: MIT
// Small models of every architecture with random weights, whose attention is uneven and whose gates do drop.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "pith/model.hpp"
#include "pith/tokenizer.hpp"

namespace pith::testing {

/// Numbers that are the same on every platform: std::mt19937_64 is specified, the standard's distributions are not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// From first to last, both included.
  int integer(int first, int last) {
    const auto span = static_cast<std::uint64_t>(last - first) + 1;
    return first + static_cast<int>(engine_() % span);
  }
  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }
  float normal() {
    constexpr double turn = 6.283185307179586;
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return static_cast<float>(radius * std::cos(turn * uniform()));
  }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[integer(0, static_cast<int>(choices.size()) - 1)];
  }

 private:
  std::mt19937_64 engine_;
};

/// What a test wants to be so; the seed chooses the rest.
struct ModelSpec {
  std::uint64_t seed = 1;
  std::optional<Architecture> architecture = {};
  std::optional<Format> format = {};  // of the weights; default: f32
  std::optional<int> head_dim = {};   // a multiple of 32 for a q8_0 cache
  std::optional<int> n_layers = {};
  std::optional<float> gate_bias = {};  // higher keeps more; default: about a tenth to a half is kept
  int gate_recent = 0;                  // 0: the seed chooses
  int window = -1;                      // sliding window, 0: none; default: Mistral's
  int context = 256;
  enum class Gate { yes, no } gate = Gate::yes;
};

namespace detail {

class ModelMaker {
 public:
  explicit ModelMaker(const ModelSpec& spec) : spec_(spec), random_(spec.seed) {}

  Model make() {
    shape();
    Weights w;
    const int d = config_.d_model;
    w.embedding = matrix(config_.vocab_size, d, 1.0f);
    if (gpt2()) w.positions = matrix(config_.context, d, 0.5f);
    for (int i = 0; i < config_.n_layers; ++i) w.layers.push_back(layer());
    w.final_norm = norm(d);
    w.head = config_.tied_head ? w.embedding : matrix(config_.vocab_size, d, 1.0f);
    return Model::create(config_, std::move(w));
  }

 private:
  bool gpt2() const { return config_.architecture == Architecture::gpt2; }

  void shape() {
    Config& c = config_;
    c.architecture = spec_.architecture
                         ? *spec_.architecture
                         : random_.one_of({Architecture::gpt2, Architecture::llama, Architecture::mistral,
                                           Architecture::qwen2, Architecture::qwen3});
    c.vocab_size = random_.integer(33, 97);
    c.n_layers = spec_.n_layers ? *spec_.n_layers : random_.integer(1, 3);
    c.n_kv_heads = random_.integer(1, 3);
    c.n_heads = c.n_kv_heads * (gpt2() ? 1 : random_.integer(1, 3));
    const int even = 2 * random_.integer(2, 12);
    c.head_dim = spec_.head_dim ? *spec_.head_dim : even;
    c.d_model = gpt2() ? c.d_query() : 32 * random_.integer(1, 3);
    c.d_ff = 32 * random_.integer(1, 5);
    c.context = spec_.context;
    c.norm_eps = random_.one_of({1e-5f, 1e-6f});
    c.activation = !gpt2() ? Activation::silu : random_.one_of({Activation::gelu, Activation::gelu_tanh});
    c.tied_head = gpt2() || random_.integer(0, 1) == 0;
    c.attention_bias = gpt2() || c.architecture == Architecture::qwen2 ||
                       (c.architecture == Architecture::llama && random_.integer(0, 2) == 0);
    c.mlp_bias = gpt2() || (c.architecture == Architecture::llama && random_.integer(0, 2) == 0);
    c.rope.theta = random_.one_of({10000.0f, 1e6f});
    c.rope.pairs = random_.one_of({RopeConfig::Pairs::halves, RopeConfig::Pairs::adjacent});
    if (!gpt2() && random_.integer(0, 2) == 0)
      for (int i = 0; i < c.head_dim / 2; ++i)
        c.rope.divisors.push_back(1.0f + 7.0f * static_cast<float>(random_.uniform()));
    if (block_values(format()) > 1) whole_blocks();

    const int chosen = random_.integer(5, 40);
    const int window = spec_.window >= 0 ? spec_.window : c.architecture == Architecture::mistral ? chosen : 0;
    if (window > 0)
      for (int i = 0; i < c.n_layers; ++i) c.sliding_window.push_back(i % 3 == 1 ? 0 : window);
    if (spec_.gate == ModelSpec::Gate::yes) {
      const int recent = random_.integer(0, 1) == 0 ? 1 : random_.integer(2, 12);
      c.gate = DropGateConfig{.dim = random_.integer(3, 17),
                              .threshold = random_.one_of({0.0f, 0.25f, -0.5f}),
                              .recent = spec_.gate_recent > 0 ? spec_.gate_recent : recent};
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
    if (!c.rope.divisors.empty()) c.rope.divisors.resize(static_cast<std::size_t>(c.head_dim / 2), 2.0f);
  }

  Format format() const { return spec_.format.value_or(Format::f32); }

  Matrix matrix(int rows, int cols, float scale) {
    std::vector<float> values(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols));
    for (float& value : values) value = scale * random_.normal();
    return Matrix::encode(format(), {values.data(), static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)});
  }

  std::vector<float> vector(int n, float mean, float deviation) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& value : values) value = mean + deviation * random_.normal();
    return values;
  }

  /// Numbers of about `gain` come out where numbers of about 1 go in.
  Linear linear(int rows, int cols, float gain, bool bias) {
    Linear out;
    out.weight = matrix(rows, cols, gain / std::sqrt(static_cast<float>(cols)));
    if (bias) out.bias = vector(rows, 0.0f, 0.2f);
    return out;
  }

  NormWeights norm(int n) {
    NormWeights out;
    out.weight = vector(n, 1.0f, 0.2f);
    if (gpt2()) out.bias = vector(n, 0.0f, 0.2f);
    return out;
  }

  LayerWeights layer() {
    const Config& c = config_;
    LayerWeights w;
    w.attention_norm = norm(c.d_model);
    w.wq = linear(c.d_query(), c.d_model, 1.5f, c.attention_bias);
    w.wk = linear(c.d_kv(), c.d_model, 1.5f, c.attention_bias);
    w.wv = linear(c.d_kv(), c.d_model, 1.0f, c.attention_bias);
    w.wo = linear(c.d_model, c.d_query(), 1.0f, c.attention_bias && c.architecture != Architecture::qwen2);
    if (c.architecture == Architecture::qwen3) {
      w.q_norm.weight = vector(c.head_dim, 1.2f, 0.2f);
      w.k_norm.weight = vector(c.head_dim, 1.2f, 0.2f);
    }
    if (c.gate) {
      w.drop_gate.wq = linear(c.gate->dim, c.d_model, 1.0f, false).weight;
      w.drop_gate.wk = linear(c.gate->dim, c.d_model, 1.0f, false).weight;
      const float about = 1.2f + static_cast<float>(random_.uniform());
      w.drop_gate.bias = spec_.gate_bias ? *spec_.gate_bias : about + c.gate->threshold;
    }
    w.mlp_norm = norm(c.d_model);
    if (!gpt2()) w.gate = linear(c.d_ff, c.d_model, 1.0f, c.mlp_bias);
    w.up = linear(c.d_ff, c.d_model, 1.0f, c.mlp_bias);
    w.down = linear(c.d_model, c.d_ff, 1.0f, c.mlp_bias);
    return w;
  }

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
                     ", " + std::to_string(c.n_layers) + " layers, " + std::to_string(c.n_heads) + " / " +
                     std::to_string(c.n_kv_heads) + " heads of " + std::to_string(c.head_dim) + ", d_model " +
                     std::to_string(c.d_model) + ", d_ff " + std::to_string(c.d_ff);
  if (!c.sliding_window.empty()) text += ", window " + std::to_string(c.window(0));
  if (c.gate) text += ", gate dim " + std::to_string(c.gate->dim) + " recent " + std::to_string(c.gate->recent);
  return text;
}

}  // namespace pith::testing
