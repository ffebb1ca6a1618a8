// SPDX-License-Identifier: MIT
// pith bench: speed of prefill and decoding by depth, beside what the memory allows.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "command.hpp"
#include "interrupt.hpp"
#include "options.hpp"
#include "pith/dot_peak.hpp"
#include "pith/plain_read.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"
#include "pith/synthetic.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/version.hpp"

namespace pith::tool {
namespace {

struct BenchOptions {
  std::string model, gates, synthetic;
  std::string format = "q8_0", kv = "f16", policy;
  std::vector<int> depths = {0, 1024, 4096, 8192};
  int prompt = 512, tokens = 32, repetitions = 5, threads = 0, sequences = 1, gate_dim = 64, chunk = 256;
  std::vector<double> keep = {1};

  bool prunes() const { return *std::min_element(keep.begin(), keep.end()) < 1; }
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Figures of one thing, repetition by repetition.
class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  bool empty() const { return values_.empty(); }
  double min() const { return *std::min_element(values_.begin(), values_.end()); }
  double max() const { return *std::max_element(values_.begin(), values_.end()); }
  double median() const {
    std::vector<double> sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    const std::size_t middle = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

 private:
  std::vector<double> values_;
};

/// Bytes of the parameters that every token reads: all but the rows of the tables that are looked up.
double bytes_read(const Model& model, bool with_gate) {
  const Weights& w = model.weights();
  double bytes = static_cast<double>(w.head.bytes());
  for (const LayerWeights& layer : w.layers) {
    for (const Linear* linear : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.gate, &layer.up, &layer.down})
      bytes += static_cast<double>(linear->weight.bytes());
    if (with_gate) bytes += static_cast<double>(layer.drop_gate.wq.bytes() + layer.drop_gate.wk.bytes());
  }
  return bytes;
}

/// Multiply-adds of a token with the weights of all blocks; nothing where some are not multiplied in 8-bit numbers.
std::optional<double> multiply_adds(const Model& model) {
  double products = 0;
  for (const LayerWeights& layer : model.weights().layers)
    for (const Linear* linear : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.gate, &layer.up, &layer.down}) {
      if (!linear->weight) continue;
      if (block_values(linear->weight.format()) == 1) return std::nullopt;
      products += static_cast<double>(linear->weight.rows()) * static_cast<double>(linear->weight.cols());
    }
  return products;
}

/// Bytes of one row of one layer: its keys and values, and the gate's key.
double row_bytes(const Config& config, Format kv, bool with_gate) {
  const double keys_and_values =
      2.0 * config.n_kv_heads * static_cast<double>(pith::row_bytes(kv, static_cast<std::size_t>(config.head_dim)));
  return keys_and_values + (with_gate && config.gate ? 4.0 * config.gate->dim : 0.0);
}

std::size_t live_rows(const CacheStats& stats) {
  std::size_t rows = 0;
  for (const std::size_t layer : stats.live_rows) rows += layer;
  return rows;
}

/// A session whose sequences stand at one depth; every measurement works on copies of them.
class Bench {
 public:
  enum class Gate { on, off };

  Bench(const Model& model, const BenchOptions& options, int depth, double keep, Gate gate, std::stop_token stop)
      : model_(model),
        options_(options),
        depth_(depth),
        keep_(keep),
        stop_(std::move(stop)),
        session_(model, settings(gate)) {
    if (depth == 0) return;
    filled_ = session_.add(random_tokens(static_cast<std::size_t>(depth)));
    finish();
    if (keep < 1) thin();
  }

  int depth() const { return depth_; }
  double keep() const { return keep_; }

  /// Seconds to feed `prompt` more tokens to one sequence.
  double prefill() {
    const std::vector<Token> prompt = random_tokens(static_cast<std::size_t>(options_.prompt));
    const SequenceId sequence = depth_ > 0 ? session_.fork(filled_) : session_.add(prompt);
    if (depth_ > 0) session_.push(sequence, prompt);
    const Clock::time_point start = Clock::now();
    finish();
    const double seconds = seconds_since(start);
    prefilled_ = session_.stats(sequence);
    session_.finish(sequence);
    return seconds;
  }

  /// Mean seconds of a step that gives every sequence one token more.
  double decode() {
    std::vector<SequenceId> all;
    for (int i = 0; i < options_.sequences; ++i)
      all.push_back(depth_ > 0 ? session_.fork(filled_) : session_.add(random_tokens(1)));
    const auto step = [&] {
      for (const SequenceId sequence : all) session_.push(sequence, random_tokens(1).front());
      finish();
    };
    if (depth_ == 0) finish();
    step();  // wakes the threads, brings the copies into memory
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < options_.tokens; ++i) step();
    const double seconds = seconds_since(start) / options_.tokens;
    decoded_ = {};
    rows_ = 0;
    for (const SequenceId sequence : all) {
      const CacheStats stats = session_.stats(sequence);
      decoded_.bytes_used += stats.bytes_used;
      rows_ += live_rows(stats);
      session_.finish(sequence);
    }
    return seconds;
  }

  const CacheStats& prefilled() const { return prefilled_; }  // one sequence, at the end
  std::size_t decoded_bytes() const { return decoded_.bytes_used; }
  std::size_t decoded_rows() const { return rows_; }  // at the end, over layers and sequences

 private:
  SessionOptions settings(Gate gate) const {
    SessionOptions settings;
    settings.policy = options_.policy.empty() ? prune::none() : prune::parse(options_.policy);
    // Judges every row and drops none: the figure holds what the gate costs at exactly this retention.
    if (gate == Gate::on) settings.policy = prune::learned_gate({.tau = -std::numeric_limits<float>::infinity()});
    settings.kv = *format_named(options_.kv);
    settings.threads = options_.threads;
    settings.chunk = options_.chunk;
    settings.context = depth_ + std::max(options_.prompt, options_.tokens + 2);
    return settings;
  }

  std::vector<Token> random_tokens(std::size_t count) {
    std::vector<Token> tokens(count);
    for (Token& token : tokens)
      token = static_cast<Token>(engine_() % static_cast<std::uint64_t>(model_.config().vocab_size));
    return tokens;
  }

  void finish() {
    while (!session_.idle()) session_.step(stop_);
  }

  /// Leaves each layer a fraction of the rows, drawn at random.
  void thin() {
    std::vector<Position> positions(static_cast<std::size_t>(depth_));
    for (std::size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<Position>(i);
    const auto kept = static_cast<std::ptrdiff_t>(std::llround(keep_ * depth_));
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(model_.config().n_layers); ++layer) {
      std::shuffle(positions.begin(), positions.end(), engine_);
      std::vector<Position> dropped(positions.begin() + kept, positions.end());
      session_.forget(filled_, layer, dropped);
    }
  }

  const Model& model_;
  const BenchOptions& options_;
  int depth_;
  double keep_;
  std::stop_token stop_;
  std::mt19937_64 engine_{7};
  Session session_;
  SequenceId filled_{};
  CacheStats prefilled_, decoded_;
  std::size_t rows_ = 0;
};

/// What is measured at one depth and retention.
struct Stand {
  Bench bench;
  std::optional<Bench> without_gate;
  Samples prefill, decode, decode_without_gate;  // seconds: of the prompt, of a step
};

std::uint64_t rss_peak() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  return "";
}

/// What the machine can do, measured between the repetitions.
struct Yardsticks {
  Samples bytes_read;     // per second
  Samples multiply_adds;  // per second, of 8-bit numbers
};

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
  double layers() const { return model_.config().n_layers; }

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
                                  {"live_rows", std::llround(static_cast<double>(live_rows(stats)) / layers())}};
    row.update(speed(stand.prefill, options_.prompt));
    row.update({{"kv_bytes", stats.bytes_used}, {"rss_peak", rss_peak()}});
    if (const auto products = multiply_adds(model_); products)
      row["of_peak"] = *products * options_.prompt / stand.prefill.median() / machine_.multiply_adds.median();
    return row;
  }

  nlohmann::ordered_json decode(const Stand& stand) const {
    const double sequences = options_.sequences;
    const bool gated = stand.bench.keep() < 1;
    // Rows grow by one a step: the mean over the steps measured.
    const double rows =
        static_cast<double>(stand.bench.decoded_rows()) - layers() * sequences * (options_.tokens - 1) / 2.0;
    const double bytes =
        bytes_read(model_, gated) + rows * row_bytes(model_.config(), *format_named(options_.kv), gated);
    const double bound = bytes / machine_.bytes_read.median();
    nlohmann::ordered_json row = {{"test", "decode"},
                                  {"depth", stand.bench.depth()},
                                  {"keep", stand.bench.keep()},
                                  {"n", options_.tokens},
                                  {"live_rows", std::llround(rows / layers() / sequences)}};
    row.update(speed(stand.decode, sequences));
    row.update({{"kv_bytes", stand.bench.decoded_bytes()},
                {"rss_peak", rss_peak()},
                {"ms_per_step", 1e3 * stand.decode.median()},
                {"bytes_per_step", bytes},
                {"bound_ms_per_step", 1e3 * bound},
                {"of_bound", bound / stand.decode.median()}});
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

void print_table(const BenchOptions& options, const nlohmann::ordered_json& report) {
  const auto& system = report["system"];
  std::cout << name_of(options) << ", " << options.kv << " cache, " << system["threads"] << " threads, "
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
    if (row.contains("of_peak")) std::cout << percent_text(row["of_peak"].get<double>()) << " of the peak";
    if (row.contains("of_bound")) std::cout << percent_text(row["of_bound"].get<double>());
    if (row.contains("gate_share")) std::cout << ", gate " << percent_text(row["gate_share"].get<double>());
    std::cout << '\n';
  }
}

void check(const BenchOptions& options) {
  require(options.model.empty() != options.synthetic.empty(), ErrorCode::argument,
          "bench: either --model or --synthetic, and not both");
  require(options.synthetic.empty() || options.gates.empty(), ErrorCode::argument,
          "bench: --gates goes with --model; a synthetic model has --gate-dim");
  // Here, as a check of the option would look at the list as one word.
  for (const double keep : options.keep)
    if (!(keep >= 0 && keep <= 1)) fail(ErrorCode::argument, "--keep", "fractions from 0 to 1", number_text(keep, 3));
  for (const int depth : options.depths)
    if (depth < 0) fail(ErrorCode::argument, "--depth", "depths of at least 0", std::to_string(depth));
  require(!options.prunes() || options.policy.empty(), ErrorCode::argument,
          "bench: --keep thins the rows itself; it does not go with --policy");
  require(options.prompt > 0 || options.tokens > 0, ErrorCode::argument, "bench: -p and -n are both 0");
}

Model model_of(const BenchOptions& options) {
  if (!options.model.empty()) return load({options.model, options.gates});
  SyntheticOptions synthetic{
      .format = *format_named(options.format),
      .gate_dim = options.prunes() || options.policy.find("gate") != std::string::npos ? options.gate_dim : 0};
  return synthetic_model(options.synthetic, synthetic);
}

Exit bench(const BenchOptions& options, const Tool& tool) {
  check(options);
  const Model model = model_of(options);
  const Interrupt interrupt;
  Progress progress(tool);
  const Threads threads(options.threads);

  // All stand ready before anything is measured, so that they can take turns: noise hits them alike.
  std::vector<std::unique_ptr<Stand>> stands;
  for (const int depth : options.depths)
    for (const double keep : options.keep) {
      progress.show("filling a context of " + std::to_string(depth));
      const auto bench = [&](Bench::Gate gate) { return Bench(model, options, depth, keep, gate, interrupt.token()); };
      const bool gated = keep < 1;
      auto stand = std::make_unique<Stand>(Stand{bench(gated ? Bench::Gate::on : Bench::Gate::off), {}, {}, {}, {}});
      if (gated && options.tokens > 0) stand->without_gate.emplace(bench(Bench::Gate::off));
      stands.push_back(std::move(stand));
    }

  Yardsticks machine;
  PlainRead plain(threads);
  plain.bytes_per_second();
  DotPeak peak(threads);
  for (int r = 0; r < options.repetitions; ++r) {
    progress.show("repetition " + std::to_string(r + 1) + " of " + std::to_string(options.repetitions));
    for (const auto& stand : stands) {
      if (options.prompt > 0) {
        machine.multiply_adds.add(peak.multiply_adds_per_second());
        stand->prefill.add(stand->bench.prefill());
      }
      if (options.tokens > 0) {
        machine.bytes_read.add(plain.bytes_per_second());
        stand->decode.add(stand->bench.decode());
        if (stand->without_gate) stand->decode_without_gate.add(stand->without_gate->decode());
      }
    }
    machine.bytes_read.add(plain.bytes_per_second());
  }
  progress.clear();

  nlohmann::ordered_json report = {
      {"rows", Report(model, options, machine).rows(stands)},
      {"config",
       {{"model", options.model.empty() ? options.synthetic : options.model},
        {"synthetic", options.model.empty()},
        {"format", options.model.empty() ? nlohmann::ordered_json(options.format) : nlohmann::ordered_json()},
        {"parameters", model.parameters()},
        {"model_bytes", model.bytes()},
        {"kv", options.kv},
        {"keep", options.keep},
        {"gate_dim", model.config().gate ? model.config().gate->dim : 0},
        {"policy", options.policy.empty() ? "none" : options.policy},
        {"prefill", options.prompt},
        {"decode", options.tokens},
        {"repetitions", options.repetitions},
        {"sequences", options.sequences},
        {"chunk", options.chunk}}},
      {"system",
       {{"version", version},
        {"isa", isa()},
        {"threads", threads.count()},
        {"cores", Threads(0).count()},
        {"processor", processor()},
        {"read_bytes_per_s", machine.bytes_read.median()},
        {"read_bytes_per_s_min", machine.bytes_read.min()},
        {"read_bytes_per_s_max", machine.bytes_read.max()}}}};
  if (!machine.multiply_adds.empty()) report["system"]["multiply_adds_per_s"] = machine.multiply_adds.median();
  tool.json ? print(report) : print_table(options, report);
  return Exit::ok;
}

}  // namespace

void add_bench(CLI::App& app, Tool& tool) {
  auto [command, options] =
      add_command<BenchOptions>(app, tool, "bench", "Speed of prefill and decoding by depth", bench);
  std::string shapes, formats;
  for (const std::string_view shape : synthetic_shapes()) shapes.append(shapes.empty() ? "" : ", ").append(shape);
  std::vector<std::string> names;
  for (int i = 0; i < format_count; ++i) names.emplace_back(name(static_cast<Format>(i)));
  for (const std::string& one : names) formats.append(formats.empty() ? "" : ", ").append(one);
  command.add_option("-m,--model", options.model, "Hugging Face directory, or .gguf file")->type_name("PATH");
  command.add_option("--gates", options.gates, "Sidecar safetensors with gates, laid over the model")
      ->type_name("FILE");
  command.add_option("--synthetic", options.synthetic, "A shape with random weights instead: " + shapes)
      ->type_name("SHAPE");
  command.add_option("--format", options.format, "Its weights: " + formats + " [q8_0]")
      ->check(CLI::IsMember(names).description(""))
      ->type_name("FORMAT");
  command.add_option("--gate-dim", options.gate_dim, "Width of its gates, for --keep [64]")
      ->check(at_least(1))
      ->type_name("R");
  command.add_option("-p,--prefill", options.prompt, "Tokens to prefill; 0 = not measured [512]")
      ->check(at_least(0))
      ->type_name("N");
  command.add_option("-n,--decode", options.tokens, "Tokens to decode; 0 = not measured [32]")
      ->check(at_least(0))
      ->type_name("N");
  command.add_option("-d,--depth", options.depths, "Context before them, one or more [0,1024,4096,8192]")
      ->delimiter(',')
      ->type_name("N,N,...");
  command.add_option("-r,--repetitions", options.repetitions, "Repetitions, of which the median counts [5]")
      ->check(at_least(1))
      ->type_name("N");
  command.add_option("--sequences", options.sequences, "Sequences decoded side by side [1]")
      ->check(at_least(1))
      ->type_name("B");
  command
      .add_option("--keep", options.keep,
                  "Thin the context to these fractions of its rows, then work with the gate, dropping no more [1]")
      ->delimiter(',')
      ->type_name("F,F,...");
  command.add_option("--policy", options.policy, "What is forgotten on the way, such as streaming(sinks=4,recent=508)")
      ->type_name("SPEC");
  command.add_option("--kv", options.kv, "Format of the cache: f32, f16 or q8_0 [f16]")
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}).description(""))
      ->type_name("FORMAT");
  command.add_option("-t,--threads", options.threads, "Threads [one per core]")->check(at_least(0))->type_name("N");
  command.add_option("-b,--batch-size", options.chunk, "Tokens of a prompt per forward pass [256]")
      ->check(at_least(1))
      ->type_name("N");
}

}  // namespace pith::tool
