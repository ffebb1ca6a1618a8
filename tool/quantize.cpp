// SPDX-License-Identifier: MIT
// pith quantize: a model as one GGUF file, in any format of weights.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "command.hpp"
#include "interrupt.hpp"
#include "options.hpp"
#include "pith/quantize.hpp"
#include "pith/synthetic.hpp"

namespace pith::tool {
namespace {

struct Options {
  std::string model, gates, synthetic, out, like;
  std::string format = "q8_0";
  int gate_dim = 0, threads = 0;
};

void check(const Options& options) {
  require(options.model.empty() != options.synthetic.empty(), ErrorCode::argument,
          "quantize: either --model or --synthetic, and not both");
  require(options.synthetic.empty() || options.gates.empty(), ErrorCode::argument,
          "quantize: --gates goes with --model; a synthetic model has --gate-dim");
  require(options.model.empty() || options.gate_dim == 0, ErrorCode::argument,
          "quantize: --gate-dim goes with --synthetic; a model has --gates");
}

Exit quantize(const Options& options, const Tool& tool) {
  check(options);
  const Interrupt interrupt;
  Progress progress(tool);
  QuantizeOptions how{.format = *format_named(options.format),
                      .like = options.like,
                      .gates = {},
                      .threads = options.threads,
                      .stop = interrupt.token(),
                      .progress = [&](std::string_view tensor, double done) {
                        progress.show(percent_text(done) + " " + std::string(tensor));
                      }};
  if (!options.gates.empty()) how.gates = options.gates;
  const Quantized result =
      options.model.empty() ? pith::quantize(synthetic_model(options.synthetic,
                                                             {.format = options.like.empty() ? how.format : Format::f16,
                                                              .gate_dim = options.gate_dim}),
                                             options.out, how)
                            : pith::quantize(options.model, options.out, how);
  progress.clear();

  for (const std::string& note : result.notes) tool.note(note);
  if (tool.json) {
    auto tensors = nlohmann::ordered_json::array();
    for (const TensorInfo& t : result.tensors)
      tensors.push_back({{"name", t.name}, {"format", t.format}, {"shape", t.shape}, {"bytes", t.bytes}});
    print({{"file", options.out},
           {"format", options.like.empty() ? options.format : options.like},
           {"bytes", result.bytes},
           {"notes", result.notes},
           {"tensors", tensors}});
  } else {
    std::cout << options.out << ": " << result.tensors.size() << " tensors, "
              << bytes_text(static_cast<double>(result.bytes)) << '\n';
  }
  return Exit::ok;
}

}  // namespace

void add_quantize(CLI::App& app, Tool& tool) {
  auto [command, options] =
      add_command<Options>(app, tool, "quantize", "A model as one GGUF file, in any format of weights", quantize);
  std::vector<std::string> names, like;
  std::string formats, shapes, likes;
  for (int i = 0; i < format_count; ++i) names.emplace_back(name(static_cast<Format>(i)));
  for (const std::string& one : names) formats.append(formats.empty() ? "" : ", ").append(one);
  for (const std::string_view shape : synthetic_shapes()) shapes.append(shapes.empty() ? "" : ", ").append(shape);
  for (const std::string_view mixture : mixtures()) {
    like.emplace_back(mixture);
    likes.append(likes.empty() ? "" : ", ").append(mixture);
  }
  command.reads_model("-m,--model", options.model, "Hugging Face directory, or .gguf file");
  command.reads("--gates", options.gates, "Sidecar safetensors with gates, in place of the model's own");
  command.add_option("--synthetic", options.synthetic, "A shape with random weights instead: " + shapes)
      ->type_name("SHAPE");
  command.number("--gate-dim", options.gate_dim, at_least(0), "Width of its gates [0 = none]").type_name("R");
  command.writes("-o,--output", options.out, "The file to write").required();
  auto* format = command.add_option("--format", options.format, "Weights: " + formats + " [q8_0]")
                     ->check(CLI::IsMember(names).description(""))
                     ->type_name("FORMAT");
  command.add_option("--like", options.like, "Each matrix in a format of its own, as llama.cpp mixes them: " + likes)
      ->check(CLI::IsMember(like).description(""))
      ->type_name("MIXTURE")
      ->excludes(format);
  add_threads(command, options.threads);
}

}  // namespace pith::tool
