// SPDX-License-Identifier: MIT
// Attention and the gate's judgement by live rows, format of the cache and threads: 30 layers, so that no cache of the
// machine holds them. Bytes are keys and values (or gate keys), once; beside them a plain read of memory.
#include <benchmark/benchmark.h>

#include <array>
#include <limits>
#include <memory>
#include <random>
#include <string>

#include "measure/plain_read.hpp"
#include "pith/nn/attention.hpp"
#include "pith/prune/methods.hpp"
#include "pith/tensor/panel.hpp"
#include "pith/tensor/tensor.hpp"

namespace {

using namespace pith;

constexpr std::size_t layers = 30, head_dim = 64, gate_dim = 64;

struct Heads {
  std::size_t query, kv;
};

/// `rows` rows in every layer, and `tokens` that look at them and at each other.
class Context {
 public:
  Context(Heads heads, KvFormat format, std::size_t rows, std::size_t tokens, KvFormat gate_keys = KvFormat::f32)
      : layouts_{PageLayout({.keys = format,
                             .values = format,
                             .heads = heads.kv,
                             .head_dim = head_dim,
                             .gate_dim = gate_dim,
                             .gate_keys = gate_keys})},
        cache_(layouts_, pool_, layers, 1, rows + tokens, DropLog::Keep::counts),
        queries_(tokens, heads.query * head_dim),
        gate_queries_(tokens, gate_dim) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(64 * head_dim);
    for (float& value : values) value = normal(engine);
    const auto some = [&] { return &values[engine() % 64 * head_dim]; };
    for (Position position = 0; position < static_cast<Position>(rows + tokens); ++position)
      for (std::size_t l = 0; l < layers; ++l) {
        const Row row = cache_.lanes(l)[0].append(position, never);
        for (std::size_t h = 0; h < heads.kv; ++h) {
          row.set_key(h, {some(), head_dim});
          row.set_value(h, {some(), head_dim});
        }
        row.set_gate_key({some(), gate_dim});
      }
    const auto first = static_cast<Position>(rows);
    pass.segments.push_back({.cache = &cache_, .row = 0, .count = tokens, .first = first, .prompt_end = first});
    for (std::size_t t = 0; t < tokens; ++t) {
      pass.positions.push_back(first + static_cast<Position>(t));
      for (float& value : queries_[t]) value = normal(engine);
      for (float& value : gate_queries_[t]) value = normal(engine);
    }
    config.layers.resize(layers);
    config.n_heads = static_cast<int>(heads.query);
    config.n_kv_heads = static_cast<int>(heads.kv);
    config.head_dim = static_cast<int>(head_dim);
  }

  View<const float> queries() const { return queries_.view(); }
  prune::GateQueries gate_queries() const { return {gate_queries_.view(), 0.125f, gate_bias_, 0, 1}; }
  KvLayer layer(std::size_t i) { return cache_.layer(i); }
  std::size_t row_bytes() const {
    const auto& shape = layouts_.kv.shape();
    return shape.heads * (pith::row_bytes(shape.keys, head_dim) + pith::row_bytes(shape.values, head_dim));
  }

  Pass pass;
  Config config;

 private:
  KvLayouts layouts_;
  PagePool pool_{0};
  KvCache cache_;
  Tensor<float> queries_, gate_queries_;
  std::array<float, 1> gate_bias_ = {};
};

void read_memory(benchmark::State& state, int threads) {
  PlainRead read{Threads(threads)};
  for (auto _ : state) read();
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(PlainRead::bytes));
}

void attention(benchmark::State& state, Heads heads, KvFormat format, std::size_t rows, std::size_t tokens, int count) {
  Context context(heads, format, rows, tokens);
  const Threads threads(count);
  Attention attend(context.config, {});
  Tensor<float> out(tokens, heads.query * head_dim);
  for (auto _ : state)
    threads.gather([&] {
      for (context.pass.layer = 0; context.pass.layer < layers; ++context.pass.layer)
        attend(context.pass, context.queries(), out.view(), threads);
    });
  const std::size_t pairs = layers * (rows * tokens + tokens * (tokens + 1) / 2);
  if (tokens == 1) state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(pairs * context.row_bytes()));
  state.counters["FLOP/s"] = benchmark::Counter(
      4.0 * static_cast<double>(pairs * heads.query * head_dim) * static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}

/// The product of prefill's attention on panels at hand: what its speed is to be compared with.
void peak(benchmark::State& state, int count) {
  constexpr std::size_t repeats = 1000, products = tile_rows * tile_rows * head_dim;
  const Threads threads(count);
  const auto tasks = static_cast<std::size_t>(count);
  const KeyPanel keys{}, queries{};
  for (auto _ : state)
    threads.gather([&] {
      threads.run(tasks, repeats * products, [&](std::size_t) {
        alignas(64) float scores[tile_rows * tile_rows];
        for (std::size_t r = 0; r < repeats; ++r) ops::multiply(keys, queries, head_dim, scores);
        benchmark::DoNotOptimize(scores);
      });
    });
  state.counters["FLOP/s"] = benchmark::Counter(
      2.0 * static_cast<double>(tasks * repeats * products) * static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}

/// Every row judged, none closed.
void gate(benchmark::State& state, KvFormat keys, std::size_t rows, int count) {
  Context context({9, 3}, KvFormat::f16, rows, 1, keys);
  const Threads threads(count);
  const auto policy = prune::learned_gate({.tau = -std::numeric_limits<float>::infinity()});
  prune::Scratch scratch;
  const Segment& segment = context.pass.segments.front();
  const prune::Moment moment{.n_layers = layers,
                             .first = segment.first,
                             .next = segment.next(),
                             .prompt_end = segment.prompt_end,
                             .gate = context.gate_queries(),
                             .threads = threads,
                             .scratch = &scratch};
  for (auto _ : state)
    threads.gather([&] {
      for (std::size_t l = 0; l < layers; ++l) policy.before_attention(context.layer(l), moment);
    });
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(layers * (rows + 1) * pith::row_bytes(keys, gate_dim)));
}

const bool registered = [] {
  for (const int threads : {1, 2}) {
    const std::string at = "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(("read_memory" + at).c_str(), read_memory, threads)->UseRealTime();
    benchmark::RegisterBenchmark(("peak" + at).c_str(), peak, threads)->UseRealTime();
    for (const std::size_t rows : {std::size_t{1024}, std::size_t{8192}}) {
      const std::string size = "/rows:" + std::to_string(rows) + at;
      for (const KvFormat format : kv_formats)
        for (const Heads heads : {Heads{3, 3}, Heads{9, 3}, Heads{24, 3}})
          benchmark::RegisterBenchmark(("decode/" + std::string(name(format)) +
                                        "/queries_per_row:" + std::to_string(heads.query / heads.kv) + size)
                                           .c_str(),
                                       attention, heads, format, rows, 1, threads)
              ->UseRealTime();
      for (const KvFormat format : {KvFormat::f32, KvFormat::f16, KvFormat::q8_0})
        benchmark::RegisterBenchmark(("prefill_256/" + std::string(name(format)) + size).c_str(), attention,
                                     Heads{9, 3}, format, rows, 256, threads)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      for (const KvFormat keys : {KvFormat::f32, KvFormat::f16})
        benchmark::RegisterBenchmark(("gate/" + std::string(name(keys)) + size).c_str(), gate, keys, rows, threads)
            ->UseRealTime();
    }
  }
  return true;
}();

}  // namespace
