// SPDX-License-Identifier: MIT
// pith bench: speed of prefill and decoding by depth, beside what the memory allows.
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench_report.hpp"
#include "command.hpp"
#include "interrupt.hpp"
#include "measure/dot_peak.hpp"
#include "measure/plain_read.hpp"
#include "options.hpp"
#include "pith/prune/spec.hpp"
#include "pith/synthetic.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/version.hpp"
#include "stand.hpp"

namespace pith::tool {
namespace {

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  return "";
}

void check(const BenchOptions& options) {
  require(options.model.empty() != options.synthetic.empty(), ErrorCode::argument,
          "bench: either --model or --synthetic, and not both");
  require(options.synthetic.empty() || options.gates.empty(), ErrorCode::argument,
          "bench: --gates goes with --model; a synthetic model has --gate-dim");
  require(!options.prunes() || options.policy.empty(), ErrorCode::argument,
          "bench: --keep thins the rows itself; it does not go with --policy");
  require(options.prompt > 0 || options.tokens > 0, ErrorCode::argument,
          "bench: --prefill/-p and --predict/-n are both 0");
}

Model model_of(const BenchOptions& options) {
  if (!options.model.empty()) return load({.path = options.model, .gates = options.gates});
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
      const auto bench = [&](Bench::Gate gate) {
        try {
          return Bench(model, options, depth, keep, gate, interrupt.token());
        } catch (const Error& error) {
          // Here the context is what is asked for.
          const std::string_view message = error.what(), context = "context: ";
          if (!message.starts_with(context)) throw;
          fail(error.code(), "--depth/-d and what follows it: " + std::string(message.substr(context.size())));
        }
      };
      const bool gated = keep < 1;
      auto stand = std::make_unique<Stand>(Stand{bench(gated ? Bench::Gate::on : Bench::Gate::off), {}, {}, {}, {}});
      if (gated && options.tokens > 0) stand->without_gate.emplace(bench(Bench::Gate::off));
      stands.push_back(std::move(stand));
    }

  Yardsticks machine;
  PlainRead plain(threads);
  plain.bytes_per_second();
  DotPeak peak(threads);
  const bool bounded_by_peak = (options.prompt > 0 || options.sequences > 1) && multiplies_bytes(model);
  for (int r = 0; r < options.repetitions; ++r) {
    progress.show("repetition " + std::to_string(r + 1) + " of " + std::to_string(options.repetitions));
    for (const auto& stand : stands) {
      if (bounded_by_peak) machine.multiply_adds.add(peak.multiply_adds_per_second());
      if (options.prompt > 0) stand->prefill.add(stand->bench.prefill());
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
      {"rows", report_rows(model, options, machine, stands)},
      {"config",
       {{"model", options.model.empty() ? options.synthetic : options.model},
        {"synthetic", options.model.empty()},
        {"format", options.model.empty() ? nlohmann::ordered_json(options.format) : nlohmann::ordered_json()},
        {"parameters", model.parameters()},
        {"model_bytes", model.bytes()},
        {"kv", name(options.kv)},
        {"keep", options.keep},
        {"gate_dim", model.config().gate ? model.config().gate->dim : 0},
        {"policy", options.policy.empty() ? "none" : prune::parse(options.policy).describe()},
        {"prefill", options.prompt},
        {"decode", options.tokens},
        {"repetitions", options.repetitions},
        {"sequences", options.sequences},
        {"mixed", options.mixed},
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
  command.reads_model("-m,--model", options.model, "Hugging Face directory, or .gguf file");
  command.reads("--gates", options.gates, "Sidecar safetensors with gates, laid over the model");
  command.add_option("--synthetic", options.synthetic, "A shape with random weights instead: " + shapes)
      ->type_name("SHAPE");
  command.add_option("--format", options.format, "Its weights: " + formats + " [q8_0]")
      ->check(CLI::IsMember(names).description(""))
      ->type_name("FORMAT");
  command.number("--gate-dim", options.gate_dim, at_least(1), "Width of its gates, for --keep [64]").type_name("R");
  command.number("-p,--prefill", options.prompt, at_least(0), "Tokens to prefill; 0 = not measured [512]");
  command.number("-n,--predict", options.tokens, at_least(0), "Tokens to generate; 0 = not measured [32]");
  command.numbers("-d,--depth", options.depths, at_least(0), "Context before them, one or more [0,1024,4096,8192]")
      .type_name("N,N,...");
  command.number("-r,--repetitions", options.repetitions, at_least(1), "Repetitions, of which the median counts [5]");
  command.number("--sequences", options.sequences, at_least(1), "Sequences decoded side by side [1]").type_name("B");
  command.add_flag("--mixed", options.mixed, "They stand at depths spread evenly up to --depth, not all at it");
  command
      .numbers("--keep", options.keep, {0, 1},
               "Thin the context to these fractions of its rows, then work with the gate, dropping no more [1]")
      .type_name("F,F,...");
  command.add_option("--policy", options.policy, "What is forgotten on the way, such as streaming(sinks=4,recent=508)")
      ->type_name("SPEC");
  add_kv_format(command, options.kv);
  add_threads(command, options.threads);
  add_chunk(command, options.chunk);
}

}  // namespace pith::tool
