// SPDX-License-Identifier: MIT
// Whole steps of a session on synthetic models: prefill and decoding by depth, dense and with a fifth of the rows kept
// (gate at work), and a batch of 16. `pith bench` measures the same with medians, the memory's bound, and any model.
// And what threads cost a step by themselves: to be gathered, and to be handed a loop.
#include <benchmark/benchmark.h>

#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <span>
#include <string>

#include "pith/pith.hpp"

namespace {

using namespace pith;

const Model& model(const std::string& shape) {
  static std::map<std::string, Model> models;
  const auto found = models.find(shape);
  if (found != models.end()) return found->second;
  return models.emplace(shape, synthetic_model(shape, {.format = Format::q8_0, .gate_dim = 64})).first->second;
}

struct Case {
  const char* shape;
  int depth;
  double keep;
  int sequences = 1;
};

/// A session with one sequence of `depth` random tokens, thinned.
class Stand {
 public:
  explicit Stand(const Case& c)
      : session(model(c.shape), {.policy = policy(c),
                                 .kv = KvFormat::f16,
                                 .context = std::min(c.depth + 600, model(c.shape).config().context)}) {
    sequence = session.add(tokens(static_cast<std::size_t>(std::max(c.depth, 1))));
    finish();
    std::vector<Position> positions(static_cast<std::size_t>(c.depth));
    std::iota(positions.begin(), positions.end(), 0);
    const auto kept = static_cast<std::ptrdiff_t>(c.keep * c.depth);
    for (int l = 0; l < session.model().config().n_layers() && c.keep < 1; ++l) {
      std::shuffle(positions.begin(), positions.end(), engine);
      session.forget(sequence, static_cast<std::size_t>(l),
                     std::span(positions).subspan(static_cast<std::size_t>(kept)));
    }
  }

  std::vector<Token> tokens(std::size_t count) {
    std::vector<Token> some(count);
    for (Token& token : some) token = static_cast<Token>(engine() % 30000);
    return some;
  }

  void finish() {
    while (!session.idle()) session.step();
  }

  std::mt19937 engine{1};
  Session session;
  SequenceId sequence{};

 private:
  static prune::AnyPolicy policy(const Case& c) {
    if (c.keep == 1) return prune::none();
    return prune::learned_gate({.tau = -std::numeric_limits<float>::infinity()});
  }
};

void decode(benchmark::State& state, const Case& c) {
  Stand stand(c);
  std::vector<SequenceId> all = {stand.sequence};
  const std::string saved = stand.session.save(stand.sequence);  // forks would share pages, which are read once for all
  while (all.size() < static_cast<std::size_t>(c.sequences))
    all.push_back(stand.session.restore(std::as_bytes(std::span(saved))).sequence);
  for (auto _ : state) {
    for (const SequenceId sequence : all) stand.session.push(sequence, stand.tokens(1).front());
    stand.finish();
  }
  state.SetItemsProcessed(state.iterations() * c.sequences);
  state.counters["kv_bytes"] = static_cast<double>(stand.session.stats().bytes_used);
}

void prefill(benchmark::State& state, const Case& c) {
  constexpr std::size_t count = 512;
  Stand stand(c);
  for (auto _ : state) {
    state.PauseTiming();
    const SequenceId copy = stand.session.fork(stand.sequence);
    stand.session.prompt(copy, stand.tokens(count));
    state.ResumeTiming();
    stand.finish();
    state.PauseTiming();
    stand.session.finish(copy);
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(count));
}

void gather(benchmark::State& state) {
  const Threads threads(static_cast<int>(state.range(0)));
  for (auto _ : state) threads.gather([] {});
}
BENCHMARK(gather)->Arg(1)->Arg(2)->UseRealTime();

void loop(benchmark::State& state) {
  const Threads threads(static_cast<int>(state.range(0)));
  threads.gather([&] {
    for (auto _ : state)
      threads.run(static_cast<std::size_t>(state.range(0)), std::size_t{1} << 30, [](std::size_t) {});
  });
}
BENCHMARK(loop)->Arg(1)->Arg(2)->UseRealTime();

const bool registered = [] {
  const auto add = [](const char* what, void (*f)(benchmark::State&, const Case&), const Case& c, int steps) {
    const std::string name = std::string(what) + "/" + c.shape + "/depth:" + std::to_string(c.depth) +
                             "/keep:" + (c.keep < 1 ? "0.2" : "1") + "/sequences:" + std::to_string(c.sequences);
    benchmark::RegisterBenchmark(name.c_str(), f, c)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(steps);
  };
  for (const double keep : {1.0, 0.2}) {
    for (const int depth : {0, 1024, 8192}) {
      add("decode", decode, {"smollm2-135m", depth, keep}, 64);
      add("prefill_512", prefill, {"smollm2-135m", depth, keep}, 3);
    }
    add("batch", decode, {"gpt2-124m", 960, keep, 16}, 32);
    add("batch", decode, {"smollm2-135m", 4096, keep, 16}, 16);
  }
  return true;
}();

}  // namespace
