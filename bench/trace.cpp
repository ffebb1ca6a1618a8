// SPDX-License-Identifier: MIT
// What a trace costs: two sessions decode the same tokens, one of them traced, token by token in turn.
//   bench_trace MODEL_DIRECTORY...
// For each model, and for a gated one of SmolLM2-135M's shape with random weights: milliseconds per token, and the
// ratio traced / plain over rounds of tokens. Both sessions choose their tokens greedily, which is the cheapest way.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "pith/model.hpp"
#include "pith/sampler.hpp"
#include "pith/trace.hpp"

namespace {

using pith::Token;

pith::Matrix random_matrix(std::mt19937& engine, int rows, int cols, float deviation) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> block(1 << 16);
  for (float& value : block) value = normal(engine);
  std::vector<float> values(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = block[(i * 40503u) % block.size()];
  return pith::Matrix::encode(pith::Format::f16,
                              {values.data(), static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)});
}

pith::Model synthetic() {
  pith::Config c;
  c.architecture = pith::Architecture::llama;
  c.vocab_size = 49152;
  c.n_layers = 30;
  c.n_heads = 9;
  c.n_kv_heads = 3;
  c.head_dim = 64;
  c.d_model = 576;
  c.d_ff = 1536;
  c.context = 2048;
  c.norm_eps = 1e-5f;
  c.activation = pith::Activation::silu;
  c.tied_head = true;
  c.rope.theta = 100000;
  c.gate = pith::DropGateConfig{.dim = 64, .threshold = 0, .recent = 16};

  std::mt19937 engine(1);
  const auto matrix = [&](int rows, int cols, float gain = 1) {
    return random_matrix(engine, rows, cols, gain / std::sqrt(static_cast<float>(cols)));
  };
  const std::vector<float> ones(static_cast<std::size_t>(c.d_model), 1.0f);
  pith::Weights w;
  w.embedding = random_matrix(engine, c.vocab_size, c.d_model, 1);
  w.head = w.embedding;
  w.final_norm.weight = ones;
  for (int i = 0; i < c.n_layers; ++i) {
    pith::LayerWeights layer;
    layer.attention_norm.weight = layer.mlp_norm.weight = ones;
    layer.wq.weight = matrix(c.d_query(), c.d_model);
    layer.wk.weight = matrix(c.d_kv(), c.d_model);
    layer.wv.weight = matrix(c.d_kv(), c.d_model);
    layer.wo.weight = matrix(c.d_model, c.d_query());
    layer.gate.weight = matrix(c.d_ff, c.d_model);
    layer.up.weight = matrix(c.d_ff, c.d_model);
    layer.down.weight = matrix(c.d_model, c.d_ff);
    layer.drop_gate.wq = matrix(c.gate->dim, c.d_model);
    layer.drop_gate.wk = matrix(c.gate->dim, c.d_model);
    layer.drop_gate.bias = 2.5f;  // a query drops one row in about 160, so that about as many are live
    w.layers.push_back(std::move(layer));
  }
  return pith::Model::create(std::move(c), std::move(w));
}

/// A sequence that is decoded greedily, and how long that takes.
class Decoder {
 public:
  Decoder(const pith::Model& model, std::span<const Token> prompt, pith::Tracer* tracer)
      : tracer_(tracer),
        session_(model, tracer != nullptr ? tracer->attach({}) : pith::SessionOptions{}),
        id_(session_.add(prompt)),
        sample_({.temperature = 0}) {
    step();
  }

  /// Seconds that the next token took.
  double step() {
    const auto begin = std::chrono::steady_clock::now();
    const auto logits = session_.step().front().logits;
    token_ = sample_(logits);
    if (tracer_ != nullptr) tracer_->predicted(id_, session_.length(id_), logits, token_);
    session_.push(id_, token_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  Token token() const { return token_; }
  std::size_t length() const { return session_.length(id_); }
  const pith::Session& session() const { return session_; }
  pith::SequenceId id() const { return id_; }

 private:
  pith::Tracer* tracer_;
  pith::Session session_;
  pith::SequenceId id_;
  pith::Sampler sample_;
  Token token_ = 0;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void measure(const std::string& name, const pith::Model& model, std::size_t rounds, std::size_t tokens) {
  std::vector<Token> prompt(128);
  std::mt19937 engine(2);
  for (Token& token : prompt) token = std::uniform_int_distribution<Token>(0, model.config().vocab_size - 1)(engine);
  std::vector<double> plain_times, traced_times, ratios;
  std::size_t drops = 0, fed = 0;
  for (std::size_t round = 0; round < rounds; ++round) {
    pith::Tracer tracer;
    Decoder plain(model, prompt, nullptr), traced(model, prompt, &tracer);
    double sum_plain = 0, sum_traced = 0;
    for (std::size_t i = 0; i < tokens; ++i) {
      Decoder& first = (i + round) % 2 == 0 ? plain : traced;
      Decoder& second = (i + round) % 2 == 0 ? traced : plain;
      const double a = first.step(), b = second.step();
      sum_plain += &first == &plain ? a : b;
      sum_traced += &first == &plain ? b : a;
      plain_times.push_back(&first == &plain ? a : b);
      traced_times.push_back(&first == &plain ? b : a);
    }
    ratios.push_back(sum_traced / sum_plain);
    if (plain.token() != traced.token()) std::printf("the traced session went another way\n");
    const pith::Trace trace = tracer.trace(traced.session(), traced.id());
    for (const auto& layer : trace.drop_at)
      for (const auto& lane : layer)
        drops += static_cast<std::size_t>(std::ranges::count_if(lane, [](auto n) { return n >= 0; }));
    fed += trace.tokens.size();
  }
  const auto [least, most] = std::ranges::minmax(ratios);
  std::printf("%s: %zu layers, vocabulary of %d, %.1f drops per token\n", name.c_str(), model.weights().layers.size(),
              model.config().vocab_size, static_cast<double>(drops) / static_cast<double>(fed));
  std::printf("  ms per token (medians): plain %.4f, traced %.4f, ratio %.4f\n", 1e3 * median(plain_times),
              1e3 * median(traced_times), median(traced_times) / median(plain_times));
  std::printf("  ratio of %zu rounds of %zu tokens: median %.4f, from %.4f to %.4f\n", rounds, tokens, median(ratios),
              least, most);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) measure(argv[i], pith::Model::load(argv[i]), 15, 800);
  measure("SmolLM2-135M's shape in f16", synthetic(), 5, 64);
}
