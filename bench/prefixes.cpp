// SPDX-License-Identifier: MIT
// Questions about one long text: the time to the first token of an answer, and the most bytes of keys and values, where
// what prompts have in common is read for each, and where it is kept. 16 questions over 4,096 tokens, on the shape of
// SmolLM2-135M in q8_0; those that read all are asked in twos, as each takes as long as the other.
#include <benchmark/benchmark.h>

#include <chrono>
#include <random>

#include "pith/pith.hpp"
#include "pith/prune/spec.hpp"

namespace {

using namespace pith;

std::vector<Token> tokens(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<Token> some(count);
  for (Token& token : some) token = static_cast<Token>(engine() % 30000);
  return some;
}

/// Seconds until each of the requests that are there together has its first token.
std::vector<double> ask(Generator& generator, unsigned first, unsigned count) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds(count, -1);
  const auto text = tokens(4096, 1);
  const auto begin = Clock::now();
  for (unsigned i = 0; i < count; ++i) {
    std::vector<Token> prompt = text;
    const auto question = tokens(40, 2 + first + i);
    prompt.insert(prompt.end(), question.begin(), question.end());
    generator.submit({.prompt = std::move(prompt), .max_tokens = 2, .on_piece = [&seconds, i, begin](const Piece&) {
                        if (seconds[i] < 0) seconds[i] = std::chrono::duration<double>(Clock::now() - begin).count();
                      }});
  }
  generator.run();
  return seconds;
}

void questions(benchmark::State& state, const char* policy, bool keeps, unsigned count) {
  static const Model model = synthetic_model("smollm2-135m", {.format = Format::q8_0, .gate_dim = 64});
  for (auto _ : state) {
    Generator generator(model, {}, {.policy = prune::parse(policy), .kv = KvFormat::f16}, 16,
                        {.bytes = keeps ? std::size_t{1} << 30 : 0});
    if (keeps) ask(generator, 100, 1);
    const auto seconds = ask(generator, 0, count);
    state.counters["first token of the first, s"] = seconds.front();
    state.counters["of the last, s"] = seconds.back();
    state.counters["MiB at most"] = static_cast<double>(generator.session().stats().bytes_high_water) / 1048576;
    state.counters["tokens not read"] = static_cast<double>(generator.prefixes().tokens_reused);
  }
}

BENCHMARK_CAPTURE(questions, dense_read_each_2, "none", false, 2u)->Iterations(1)->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(questions, dense_kept_16, "none", true, 16u)->Iterations(1)->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(questions, streaming_kept_16, "streaming(sinks=4,recent=1020)", true, 16u)
    ->Iterations(1)
    ->Unit(benchmark::kSecond);

}  // namespace
