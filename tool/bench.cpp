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
  const bool bounded_by_peak = options.prompt > 0 && multiplies_bytes(model);
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
        {"kv", options.kv},
        {"keep", options.keep},
        {"gate_dim", model.config().gate ? model.config().gate->dim : 0},
        {"policy", options.policy.empty() ? "none" : prune::parse(options.policy).describe()},
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
