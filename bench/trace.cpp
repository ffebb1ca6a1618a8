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
#include "pith/synthetic.hpp"
#include "pith/trace.hpp"

namespace {

using pith::Token;

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
  measure("smollm2-135m with random weights",
          pith::synthetic_model("smollm2-135m", {.format = pith::Format::f16, .gate_dim = 64}), 5, 64);
}
