// SPDX-License-Identifier: MIT
// Kernels per format and instruction set: bytes of weights or cache rows per second beside a plain read of memory, and
// for many tokens FLOP per second. All on one thread. For medians that can be compared:
//   bench_kernels --benchmark_enable_random_interleaving --benchmark_repetitions=5 --benchmark_report_aggregates_only
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/table.hpp"
#include "pith/tensor/format.hpp"
#include "pith/tensor/tensor.hpp"

namespace {

using pith::Format;
using pith::KvFormat;
using pith::q8_activation;
using pith::Tensor;
using pith::kernels::FormatKernels;
using pith::kernels::Table;

constexpr std::size_t beyond_caches = std::size_t{128} << 20;  // bytes

using Bytes = Tensor<std::byte>;

Bytes encoded(Format format, std::size_t rows, std::size_t cols) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(cols);
  for (float& v : values) v = normal(engine);
  Bytes bytes;
  bytes.resize(rows, pith::row_bytes(format, cols));
  const FormatKernels& kernels = pith::kernels::table().formats[static_cast<std::size_t>(format)];
  kernels.encode(values.data(), cols, bytes[0].data());  // all rows alike: the search of some formats takes its time
  for (std::size_t r = 1; r < rows; ++r) std::memcpy(bytes[r].data(), bytes[0].data(), bytes.cols());
  return bytes;
}

Tensor<float> floats(std::size_t rows, std::size_t cols) {
  Tensor<float> values(rows, cols);
  std::mt19937 engine(2);
  std::normal_distribution<float> normal;
  for (std::size_t r = 0; r < rows; ++r)
    for (float& v : values[r]) v = normal(engine);
  return values;
}

void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void count_products(benchmark::State& state, std::size_t products) {
  state.counters["FLOP/s"] = benchmark::Counter(
      2.0 * static_cast<double>(products) * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

/// What the memory gives a single thread that only reads.
void read_memory(benchmark::State& state) {
  Tensor<std::uint64_t> words(1, beyond_caches / sizeof(std::uint64_t));
  for (auto _ : state) {
    std::uint64_t sums[8] = {};
    for (std::size_t i = 0; i < words.cols(); i += 8)
      for (std::size_t k = 0; k < 8; ++k) sums[k] += words.data()[i + k];
    benchmark::DoNotOptimize(sums);
  }
  count_bytes(state, words.cols() * sizeof(std::uint64_t));
}

void matmul(benchmark::State& state, const Table& table, Format format, std::size_t rows, std::size_t cols,
            std::size_t tokens) {
  const Bytes w = encoded(format, rows, cols);
  const Tensor<float> values = floats(tokens, cols);
  Tensor<q8_activation> quantised(tokens, cols / 32);
  table.quantise(values.data(), tokens * cols, quantised.data());
  const std::span x = !pith::wants_quantised(format) ? std::as_bytes(std::span(values.data(), tokens * cols))
                                                     : std::as_bytes(std::span(quantised.data(), tokens * cols / 32));
  Tensor<float> y(tokens, rows);
  const FormatKernels& kernels = table.formats[static_cast<std::size_t>(format)];
  for (auto _ : state) {
    kernels.matmul(w.data(), w.cols(), rows, x.data(), x.size() / tokens, tokens, cols, y.data(), rows);
    benchmark::ClobberMemory();
  }
  if (tokens == 1) count_bytes(state, w.rows() * w.cols());
  count_products(state, rows * cols * tokens);
}

/// The bound of a matmul of many tokens: its inner product alone, on data in the first-level cache.
void dot_peak(benchmark::State& state, const Table& table) {
  std::size_t products = 0;
  for (auto _ : state) products = table.dot_rounds(10000);
  count_products(state, products);
}

constexpr std::size_t head_dim = 64, group = 3;  // queries per stored row

/// Tiles of a cache beyond the machine's, all alike, each visited once.
Bytes tiles(KvFormat format, pith::Side side) {
  const Tensor<float> values = floats(pith::tile_rows, head_dim);
  Bytes bytes;
  bytes.resize(beyond_caches / pith::tile_bytes(format, head_dim), pith::tile_bytes(format, head_dim));
  for (std::size_t r = 0; r < pith::tile_rows; ++r)
    pith::store_row(format, side, values[r].data(), head_dim, bytes[0].data(), r);
  for (std::size_t t = 1; t < bytes.rows(); ++t) std::memcpy(bytes[t].data(), bytes[0].data(), bytes.cols());
  return bytes;
}

void dots(benchmark::State& state, const Table& table, KvFormat format) {
  const Bytes keys = tiles(format, pith::Side::keys);
  Tensor<float> queries = floats(group, head_dim);
  Tensor<float> scores(group, pith::tile_rows);
  const FormatKernels& kernels = table.formats[static_cast<std::size_t>(pith::storage(format))];
  if (kernels.prepare != nullptr) kernels.prepare(queries.data(), group, head_dim, head_dim);
  for (auto _ : state)
    for (std::size_t t = 0; t < keys.rows(); ++t) {
      kernels.dots(queries.data(), group, head_dim, keys[t].data(), pith::tile_rows, head_dim, scores.data(),
                   pith::tile_rows, nullptr);
      benchmark::ClobberMemory();
    }
  count_bytes(state, keys.rows() * keys.cols());
}

void accumulate(benchmark::State& state, const Table& table, KvFormat format) {
  const Bytes values = tiles(format, pith::Side::values);
  const Tensor<float> weights = floats(group, pith::tile_rows);
  Tensor<float> out(group, head_dim);
  const FormatKernels& kernels = table.formats[static_cast<std::size_t>(pith::storage(format))];
  for (auto _ : state)
    for (std::size_t t = 0; t < values.rows(); ++t) {
      kernels.accumulate(weights.data(), group, pith::tile_rows, values[t].data(), pith::tile_rows, head_dim,
                         out.data(), head_dim, nullptr);
      benchmark::ClobberMemory();
    }
  count_bytes(state, values.rows() * values.cols());
}

void quantise(benchmark::State& state, const Table& table) {
  const Tensor<float> x = floats(1, 4096);
  Tensor<q8_activation> out(1, x.cols() / 32);
  for (auto _ : state) {
    table.quantise(x.data(), x.cols(), out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(x.cols()));
}

void exp_shifted(benchmark::State& state, const Table& table) {
  Tensor<float> x = floats(1, 4096);
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.exp_shifted(x.data(), 1, x.cols()));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(x.cols()));
}

const bool registered = [] {
  benchmark::RegisterBenchmark("read_memory", read_memory);
  for (const Table* table : pith::kernels::tables()) {
    if (!table->runs_here()) continue;
    const std::string isa = table->name;
    benchmark::RegisterBenchmark(("exp/" + isa).c_str(), exp_shifted, *table);
    benchmark::RegisterBenchmark(("quantise/" + isa).c_str(), quantise, *table);
    benchmark::RegisterBenchmark(("dot_peak/q8_0/" + isa).c_str(), dot_peak, *table);
    for (const Format format : pith::all_formats) {
      const std::string name = std::string(pith::name(format)) + "/" + isa;
      constexpr std::size_t cols = 2048;
      const std::size_t rows = beyond_caches / pith::row_bytes(format, cols);
      benchmark::RegisterBenchmark(("matmul_1_token/" + name).c_str(), matmul, *table, format, rows, cols, 1);
      benchmark::RegisterBenchmark(("matmul_64_tokens/" + name).c_str(), matmul, *table, format, 256, cols, 64);
      benchmark::RegisterBenchmark(("matmul_512_tokens/" + name).c_str(), matmul, *table, format, 128, cols, 512);
    }
    for (const KvFormat format : pith::kv_formats) {
      const std::string name = std::string(pith::name(format)) + "/" + isa;
      benchmark::RegisterBenchmark(("dots/" + name).c_str(), dots, *table, format);
      benchmark::RegisterBenchmark(("accumulate/" + name).c_str(), accumulate, *table, format);
    }
  }
  return true;
}();

}  // namespace
