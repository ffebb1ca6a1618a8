// SPDX-License-Identifier: MIT
// What a trace costs: two sessions decode the same tokens, one of them traced, token by token in turn.
//   bench_trace MODEL_DIRECTORY...
// For each model, and for a gated one of SmolLM2-135M's shape with random weights: milliseconds per token, and the
// ratio traced / plain over rounds of tokens. Both sessions choose their tokens greedily, which is the cheapest way.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "pith/generator.hpp"
#include "pith/model.hpp"
#include "pith/synthetic.hpp"
#include "pith/trace.hpp"

namespace {

using pith::Token;

/// A text that is generated greedily, and how long that takes.
class Decoder {
 public:
  Decoder(const pith::Model& model, const std::vector<Token>& prompt, pith::Tracer* tracer)
      : generator_(model, std::nullopt, tracer != nullptr ? tracer->attach({}) : pith::SessionOptions{}) {
    pith::Request request{.prompt = prompt, .ends = std::vector<Token>{}, .sampler = {.temperature = 0}};
    request.on_piece = [this, tracer](const pith::Piece& piece) {
      id_ = *piece.sequence;
      token_ = *piece.token;
      if (tracer != nullptr) tracer->predicted(id_, session().length(id_), piece.logits, token_);
    };
    generator_.submit(std::move(request));
    step();
  }

  /// Seconds that the next token took.
  double step() {
    const auto begin = std::chrono::steady_clock::now();
    generator_.step();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  Token token() const { return token_; }
  const pith::Session& session() const { return generator_.session(); }
  pith::SequenceId id() const { return id_; }

 private:
  pith::Generator generator_;
  pith::SequenceId id_{};
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
