// SPDX-License-Identifier: MIT
#include "bench_report.hpp"

#include <sys/resource.h>

#include <cmath>
#include <iomanip>
#include <iostream>
#include <type_traits>

#include "pith/nn/parameters.hpp"
#include "tool.hpp"

namespace pith::tool {
namespace {

/// Calls f(parameter, matrix) for what every token is multiplied with: not the tables that rows are looked up in.
template <class F>
void for_each_product(const Model& model, F&& f) {
  for_each_parameter(model.config(), model.weights(), [&](const Parameter& p, const auto& kept) {
    if constexpr (std::is_same_v<decltype(kept), const Matrix&>)
      if (p.layer) f(p, kept);
  });
  f({.role = Role::head}, model.weights().head);  // tied or not
}

/// How much of a parameter one token is multiplied with: of the experts, those that are chosen.
double share_of(const Config& config, const Parameter& p) {
  if (!p.expert) return 1;
  const Experts& experts = config.layers[*p.layer].experts;
  return static_cast<double>(experts.chosen) / experts.count;
}

/// Bytes of the parameters that a token reads.
double bytes_read(const Model& model, bool with_gate) {
  double bytes = 0;
  for_each_product(model, [&](const Parameter& p, const Matrix& matrix) {
    if (with_gate || !is_drop_gate(p.role)) bytes += share_of(model.config(), p) * static_cast<double>(matrix.bytes());
  });
  return bytes;
}

/// Multiply-adds of a token with the weights of all blocks, and those of the head, where logits are wanted.
double multiply_adds(const Model& model, bool with_head) {
  double products = 0;
  for_each_product(model, [&](const Parameter& p, const Matrix& matrix) {
    if ((p.layer || with_head) && !is_drop_gate(p.role))
      products += share_of(model.config(), p) * static_cast<double>(matrix.rows()) * static_cast<double>(matrix.cols());
  });
  return products;
}

/// Of a layer.
double lanes(const Config& config, bool with_gate) {
  return with_gate && config.gate_per_head() ? config.n_kv_heads : 1;
}

/// Bytes of one row: its keys and values, and the gate's key.
double row_bytes(const Config& config, const KvPair& kv, bool with_gate) {
  const auto dim = static_cast<std::size_t>(config.head_dim);
  const double keys_and_values =
      config.n_kv_heads * static_cast<double>(pith::row_bytes(kv.keys, dim) + pith::row_bytes(kv.values, dim));
  return keys_and_values / lanes(config, with_gate) + (with_gate && config.gate ? 4.0 * config.gate->dim : 0.0);
}

std::uint64_t rss_peak() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

class Report {
 public:
  Report(const Model& model, const BenchOptions& options, const Yardsticks& machine)
      : model_(model), options_(options), machine_(machine) {}

  nlohmann::ordered_json rows(const std::vector<std::unique_ptr<Stand>>& stands) const {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& stand : stands)
      if (!stand->prefill.empty()) rows.push_back(prefill(*stand));
    for (const auto& stand : stands)
      if (!stand->decode.empty()) rows.push_back(decode(*stand));
    return rows;
  }

 private:
  double layers() const { return model_.config().n_layers(); }

  nlohmann::ordered_json speed(const Samples& seconds, double tokens) const {
    return {{"tokens_per_s", tokens / seconds.median()},        {"tokens_per_s_min", tokens / seconds.max()},
            {"tokens_per_s_max", tokens / seconds.min()},       {"ms_per_token", 1e3 * seconds.median() / tokens},
            {"ms_per_token_min", 1e3 * seconds.min() / tokens}, {"ms_per_token_max", 1e3 * seconds.max() / tokens}};
  }

  nlohmann::ordered_json prefill(const Stand& stand) const {
    const CacheStats& stats = stand.bench.prefilled();
    nlohmann::ordered_json row = {{"test", "prefill"},
                                  {"depth", stand.bench.depth()},
                                  {"keep", stand.bench.keep()},
                                  {"n", options_.prompt},
                                  {"live_rows", std::llround(static_cast<double>(live_rows(stats)) / layers() /
                                                             lanes(model_.config(), stand.bench.keep() < 1))}};
    row.update(speed(stand.prefill, options_.prompt));
    row.update({{"kv_bytes", stats.bytes_used}, {"rss_peak", rss_peak()}});
    if (!machine_.multiply_adds.empty())
      row["of_peak"] =
          multiply_adds(model_, false) * options_.prompt / stand.prefill.median() / machine_.multiply_adds.median();
    return row;
  }

  nlohmann::ordered_json decode(const Stand& stand) const {
    const double sequences = options_.sequences;
    const bool gated = stand.bench.keep() < 1;
    const double all_lanes = layers() * lanes(model_.config(), gated) * sequences;
    // Rows grow by one a step: the mean over the steps measured.
    const double rows = static_cast<double>(stand.bench.decoded_rows()) - all_lanes * (options_.tokens - 1) / 2.0;
    const double bytes = bytes_read(model_, gated) + rows * row_bytes(model_.config(), options_.kv, gated);
    const double bound = bytes / machine_.bytes_read.median();
    nlohmann::ordered_json row = {{"test", "decode"},
                                  {"depth", stand.bench.depth()},
                                  {"keep", stand.bench.keep()},
                                  {"n", options_.tokens},
                                  {"live_rows", std::llround(rows / all_lanes)}};
    row.update(speed(stand.decode, sequences));
    row.update({{"kv_bytes", stand.bench.decoded_bytes()},
                {"rss_peak", rss_peak()},
                {"ms_per_step", 1e3 * stand.decode.median()},
                {"bytes_per_step", bytes},
                {"bound_ms_per_step", 1e3 * bound},
                {"of_bound", bound / stand.decode.median()}});
    if (options_.sequences > 1 && !machine_.multiply_adds.empty()) {
      const Config& config = model_.config();
      const double pairs = 2.0 * config.n_heads * config.head_dim * rows / lanes(config, gated);
      const double by_peak = (multiply_adds(model_, true) * sequences + pairs) / machine_.multiply_adds.median();
      row.update({{"peak_ms_per_step", 1e3 * by_peak}, {"of_peak", by_peak / stand.decode.median()}});
    }
    if (!stand.decode_without_gate.empty())
      row["gate_share"] = 1 - stand.decode_without_gate.median() / stand.decode.median();
    return row;
  }

  const Model& model_;
  const BenchOptions& options_;
  const Yardsticks& machine_;
};

std::string name_of(const BenchOptions& options) {
  return options.model.empty() ? options.synthetic + " " + options.format : options.model;
}

}  // namespace

bool multiplies_bytes(const Model& model) {
  bool all = true;
  for_each_product(model, [&](const Parameter& p, const Matrix& matrix) {
    if (p.layer && !is_drop_gate(p.role)) all = all && block_values(matrix.format()) > 1;
  });
  return all;
}

nlohmann::ordered_json report_rows(const Model& model, const BenchOptions& options, const Yardsticks& machine,
                                   const std::vector<std::unique_ptr<Stand>>& stands) {
  return Report(model, options, machine).rows(stands);
}

void print_table(const BenchOptions& options, const nlohmann::ordered_json& report) {
  const auto& system = report["system"];
  std::cout << name_of(options) << ", " << name(options.kv) << " cache, " << system["threads"] << " threads, "
            << system["isa"].get<std::string>() << ", plain read "
            << number_text(system["read_bytes_per_s"].get<double>() / 1e9, 1) << " GB/s\n";
  std::cout << "\ntest        depth    kept   live rows    tokens/s   (min, max)            ms/token   cache       of "
               "bound\n";
  for (const auto& row : report["rows"]) {
    const auto number = [&](const char* key, int decimals) { return number_text(row[key].get<double>(), decimals); };
    std::cout << std::left << std::setw(8) << row["test"].get<std::string>() << std::right << std::setw(9)
              << row["depth"].get<int>() << std::setw(8) << percent_text(row["keep"].get<double>()) << std::setw(12)
              << row["live_rows"].get<std::int64_t>() << std::setw(12) << number("tokens_per_s", 1) << "   "
              << std::left << std::setw(20)
              << "(" + number("tokens_per_s_min", 1) + ", " + number("tokens_per_s_max", 1) + ")" << std::right
              << std::setw(10) << number("ms_per_token", 2) << "   " << std::left << std::setw(12)
              << bytes_text(row["kv_bytes"].get<double>());
    if (row.contains("of_bound"))
      std::cout << percent_text(row["of_bound"].get<double>()) << (row.contains("of_peak") ? ", " : "");
    if (row.contains("of_peak")) std::cout << percent_text(row["of_peak"].get<double>()) << " of the peak";
    if (row.contains("gate_share")) std::cout << ", gate " << percent_text(row["gate_share"].get<double>());
    std::cout << '\n';
  }
}

}  // namespace pith::tool
