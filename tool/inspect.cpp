// SPDX-License-Identifier: MIT
// pith inspect: what is in a model, without reading its weights.
#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"
#include "options.hpp"
#include "pith/cache/page_layout.hpp"
#include "pith/error.hpp"

namespace pith::tool {
namespace {

struct InspectOptions {
  ModelOptions model;
  KvPair kv = KvFormat::f32;
};

/// What a token that is kept takes in all layers, gate keys and bookkeeping included; nothing where the format does not
/// fit the heads.
std::optional<double> kv_bytes_per_token(const Config& config, const KvPair& formats) {
  if (config.head_dim % block_values(formats) != 0) return std::nullopt;
  const int lanes = config.gate_per_head() ? config.n_kv_heads : 1;  // of a layer
  const PageLayout layout({.keys = formats.keys,
                           .values = formats.values,
                           .heads = static_cast<std::size_t>(config.n_kv_heads / lanes),
                           .head_dim = static_cast<std::size_t>(config.head_dim),
                           .gate_dim = config.gate ? static_cast<std::size_t>(config.gate->dim) : 0,
                           .gate_keys = formats == KvFormat::f32 ? KvFormat::f32 : KvFormat::f16});
  const auto layers = std::ranges::count_if(config.layers, [](const LayerPlan& plan) { return plan.kv_from < 0; });
  return static_cast<double>(layout.bytes()) * static_cast<double>(layers * lanes) /
         static_cast<double>(PageLayout::capacity);
}

/// What inspect speaks of: every format alone, and the pair that was asked for.
std::vector<KvPair> kv_pairs(const KvPair& asked) {
  std::vector<KvPair> pairs(kv_formats.begin(), kv_formats.end());
  if (asked.keys != asked.values) pairs.push_back(asked);
  return pairs;
}

using Tensors = std::vector<TensorInfo>;

std::map<std::string, std::uint64_t> bytes_by_format(const Tensors& tensors) {
  std::map<std::string, std::uint64_t> bytes;
  for (const TensorInfo& tensor : tensors) bytes[tensor.format] += tensor.bytes;
  return bytes;
}

std::uint64_t total_bytes(const Tensors& tensors) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : tensors) sum += tensor.bytes;
  return sum;
}

std::uint64_t total_numbers(const Tensors& tensors) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : tensors) {
    std::uint64_t numbers = 1;
    for (const std::int64_t side : tensor.shape) numbers *= static_cast<std::uint64_t>(side);
    sum += numbers;
  }
  return sum;
}

nlohmann::ordered_json json_of(const Tensors& tensors) {
  auto json = nlohmann::ordered_json::array();
  for (const TensorInfo& t : tensors)
    json.push_back({{"name", t.name}, {"format", t.format}, {"shape", t.shape}, {"bytes", t.bytes}});
  return json;
}

/// The first layer with experts; null where there is none.
const LayerPlan* mixture(const Config& c) {
  const auto found = std::ranges::find_if(c.layers, [](const LayerPlan& plan) { return plan.experts.count > 0; });
  return found == c.layers.end() ? nullptr : &*found;
}

void print_json(const Model& model, const KvPair& asked) {
  const Config& c = model.config();
  nlohmann::ordered_json gate;  // null without
  if (c.gate)
    gate = {{"dim", c.gate->dim},
            {"threshold", c.gate->threshold},
            {"recent", c.gate->recent},
            {"sinks", c.gate->sinks},
            {"scope", name(c.gate->scope)}};
  nlohmann::ordered_json dms;  // null without
  if (c.dms) dms = {{"scale", c.dms->scale}, {"offset", c.dms->offset}, {"window", c.dms->window}};
  nlohmann::ordered_json kv;
  for (const KvPair& formats : kv_pairs(asked)) {
    const auto bytes = kv_bytes_per_token(c, formats);
    kv[name(formats)] = bytes ? nlohmann::ordered_json(*bytes) : nlohmann::ordered_json();
  }
  std::vector<int> windows;
  for (const LayerPlan& plan : c.layers) windows.push_back(plan.window);
  const bool slides = std::ranges::any_of(windows, [](int window) { return window > 0; });
  nlohmann::ordered_json experts;  // null without
  if (const LayerPlan* plan = mixture(c))
    experts = {{"count", plan->experts.count}, {"chosen", plan->experts.chosen}, {"d_ff", c.d_ff_of(*plan)}};
  print({{"architecture", name(c.architecture)},
         {"parameters", model.parameters()},
         {"bytes", model.bytes()},
         {"formats", bytes_by_format(model.tensors())},
         {"layers", c.n_layers()},
         {"d_model", c.d_model},
         {"heads", c.n_heads},
         {"kv_heads", c.n_kv_heads},
         {"head_dim", c.head_dim},
         {"d_ff", c.d_ff},
         {"experts", experts},
         {"vocabulary", c.vocab_size},
         {"context", c.context},
         {"tied_head", c.tied_head},
         {"sliding_window", slides ? nlohmann::ordered_json(windows) : nlohmann::ordered_json()},
         {"gate", gate},
         {"dms", dms},
         {"kv_bytes_per_token", kv},
         {"unsupported", nullptr},
         {"tensors", json_of(model.tensors())}});
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t side : shape) text += (text.empty() ? "" : " x ") + std::to_string(side);
  return text.empty() ? "scalar" : text;
}

std::string count_text(double n) {
  if (n < 1e5) return number_text(n, 0);
  if (n < 1e9) return number_text(n / 1e6, n < 1e8 ? 2 : 1) + " million";
  return number_text(n / 1e9, 2) + " billion";
}

void print_line(const char* what, const std::string& value) {
  std::cout << std::left << std::setw(14) << what << value << '\n';
}

std::string parameters_text(std::uint64_t numbers, const Tensors& tensors) {
  std::string formats;
  for (const auto& [format, bytes] : bytes_by_format(tensors))
    formats += (formats.empty() ? "" : ", ") + bytes_text(static_cast<double>(bytes)) + " of " + format;
  return count_text(static_cast<double>(numbers)) + " (" + formats + ")";
}

void print_tensors(const Tensors& tensors) {
  std::size_t widest = 0;
  for (const TensorInfo& t : tensors) widest = std::max(widest, t.name.size());
  std::cout << '\n';
  for (const TensorInfo& t : tensors)
    std::cout << std::left << std::setw(static_cast<int>(widest)) << t.name << "  " << std::setw(5) << t.format << ' '
              << shape_text(t.shape) << '\n';
}

void print_table(const Model& model, const KvPair& asked) {
  const Config& c = model.config();
  const auto text = [](auto n) { return std::to_string(n); };

  print_line("architecture", std::string(name(c.architecture)));
  print_line("parameters", parameters_text(model.parameters(), model.tensors()));
  print_line("layers", text(c.n_layers()) + " of width " + text(c.d_model) + ", MLP " + text(c.d_ff));
  if (const LayerPlan* plan = mixture(c)) {
    const auto layers = std::ranges::count_if(c.layers, [](const LayerPlan& one) { return one.experts.count > 0; });
    print_line("experts", text(plan->experts.chosen) + " of " + text(plan->experts.count) + " of width " +
                              text(c.d_ff_of(*plan)) + " for each token, in " + text(layers) + " layers");
  }
  print_line("heads",
             text(c.n_heads) + " of width " + text(c.head_dim) + ", " + text(c.n_kv_heads) + " for keys and values");
  print_line("vocabulary", text(c.vocab_size) + (c.tied_head ? ", head tied to the embedding" : ""));
  print_line("context", text(c.context));
  const int widest_window = std::ranges::max(c.layers, {}, &LayerPlan::window).window;
  const auto sliding = std::ranges::count_if(c.layers, [](const LayerPlan& plan) { return plan.window > 0; });
  if (sliding > 0) print_line("window", text(widest_window) + " tokens in " + text(sliding) + " layers");
  print_line("gate", c.gate ? "learned" + std::string(c.gate_per_head() ? " for each kv-head" : "") + ", width " +
                                  text(c.gate->dim) + ", threshold " + number_text(c.gate->threshold, 3) +
                                  (c.gate->recent > 1 ? ", spares the last " + text(c.gate->recent - 1) : "") +
                                  (c.gate->sinks > 0 ? ", and the first " + text(c.gate->sinks) : "")
                            : "none");
  if (c.dms) print_line("dms", "decides what leaves " + text(c.dms->window) + " tokens later");
  std::string kv;
  for (const KvPair& formats : kv_pairs(asked))
    if (const auto bytes = kv_bytes_per_token(c, formats))
      kv += (kv.empty() ? "" : ", ") + bytes_text(*bytes) + " as " + name(formats);
  print_line("a kept token", kv);
  print_tensors(model.tensors());
}

/// What is there, of files that cannot be run, and why they cannot.
void describe(const ModelFiles& files, const std::string& reason, const Tool& tool) {
  const std::uint64_t numbers = total_numbers(files.tensors), bytes = total_bytes(files.tensors);
  if (tool.json) {
    print({{"architecture", files.architecture},
           {"parameters", numbers},
           {"bytes", bytes},
           {"formats", bytes_by_format(files.tensors)},
           {"unsupported", reason},
           {"tensors", json_of(files.tensors)}});
    return;
  }
  print_line("architecture", files.architecture.empty() ? "unknown" : files.architecture);
  print_line("unsupported", reason);
  print_line("parameters", parameters_text(numbers, files.tensors));
  print_tensors(files.tensors);
}

Exit inspect(const InspectOptions& options, const Tool& tool) {
  try {
    const Model model = load(options.model);
    tool.json ? print_json(model, options.kv) : print_table(model, options.kv);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported && error.code() != ErrorCode::model) throw;
    describe(ModelFiles::read(options.model.path), error.what(), tool);
  }
  return Exit::ok;
}

}  // namespace

void add_inspect(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<InspectOptions>(app, tool, "inspect", "What is in a model", inspect);
  add_model_path(command, options.model);
  add_gates(command, options.model);
  add_kv_format(command, options.kv);
}

}  // namespace pith::tool
