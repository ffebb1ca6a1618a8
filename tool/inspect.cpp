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

#include "command.hpp"
#include "options.hpp"
#include "pith/cache/page_layout.hpp"

namespace pith::tool {
namespace {

struct InspectOptions {
  ModelOptions model;
};

constexpr std::array cache_formats = {Format::f32, Format::f16, Format::q8_0};

/// What a token that is kept takes in all layers, gate keys and bookkeeping included; nothing where the format does not
/// fit the heads.
std::optional<double> kv_bytes_per_token(const Config& config, Format format) {
  if (config.head_dim % block_values(format) != 0) return std::nullopt;
  const PageLayout layout({.format = format,
                           .heads = static_cast<std::size_t>(config.n_kv_heads),
                           .head_dim = static_cast<std::size_t>(config.head_dim),
                           .gate_dim = config.gate ? static_cast<std::size_t>(config.gate->dim) : 0});
  return static_cast<double>(layout.bytes()) * config.n_layers / static_cast<double>(PageLayout::capacity);
}

std::map<std::string, std::uint64_t> bytes_by_format(const Model& model) {
  std::map<std::string, std::uint64_t> bytes;
  for (const TensorInfo& tensor : model.tensors()) bytes[tensor.format] += tensor.bytes;
  return bytes;
}

void print_json(const Model& model) {
  const Config& c = model.config();
  nlohmann::ordered_json gate;  // null without
  if (c.gate) gate = {{"dim", c.gate->dim}, {"threshold", c.gate->threshold}, {"recent", c.gate->recent}};
  nlohmann::ordered_json kv;
  for (const Format format : cache_formats) {
    const auto bytes = kv_bytes_per_token(c, format);
    kv[std::string(name(format))] = bytes ? nlohmann::ordered_json(*bytes) : nlohmann::ordered_json();
  }
  auto tensors = nlohmann::ordered_json::array();
  for (const TensorInfo& t : model.tensors())
    tensors.push_back({{"name", t.name}, {"format", t.format}, {"shape", t.shape}, {"bytes", t.bytes}});
  nlohmann::ordered_json windows;
  if (!c.sliding_window.empty()) windows = c.sliding_window;
  print({{"architecture", name(c.architecture)},
         {"parameters", model.parameters()},
         {"bytes", model.bytes()},
         {"formats", bytes_by_format(model)},
         {"layers", c.n_layers},
         {"d_model", c.d_model},
         {"heads", c.n_heads},
         {"kv_heads", c.n_kv_heads},
         {"head_dim", c.head_dim},
         {"d_ff", c.d_ff},
         {"vocabulary", c.vocab_size},
         {"context", c.context},
         {"tied_head", c.tied_head},
         {"sliding_window", windows},
         {"gate", gate},
         {"kv_bytes_per_token", kv},
         {"tensors", tensors}});
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

void print_table(const Model& model) {
  const Config& c = model.config();
  const auto line = [](const char* what, const std::string& value) {
    std::cout << std::left << std::setw(14) << what << value << '\n';
  };
  const auto text = [](auto n) { return std::to_string(n); };

  line("architecture", std::string(name(c.architecture)));
  std::string formats;
  for (const auto& [format, bytes] : bytes_by_format(model))
    formats += (formats.empty() ? "" : ", ") + bytes_text(static_cast<double>(bytes)) + " of " + format;
  line("parameters", count_text(static_cast<double>(model.parameters())) + " (" + formats + ")");
  line("layers", text(c.n_layers) + " of width " + text(c.d_model) + ", MLP " + text(c.d_ff));
  line("heads", text(c.n_heads) + " of width " + text(c.head_dim) + ", " + text(c.n_kv_heads) + " for keys and values");
  line("vocabulary", text(c.vocab_size) + (c.tied_head ? ", head tied to the embedding" : ""));
  line("context", text(c.context));
  if (const auto windowed = std::ranges::count_if(c.sliding_window, [](int w) { return w > 0; }); windowed > 0)
    line("window", text(*std::ranges::max_element(c.sliding_window)) + " tokens in " + text(windowed) + " layers");
  line("gate", c.gate ? "learned, width " + text(c.gate->dim) + ", threshold " + number_text(c.gate->threshold, 3) +
                            (c.gate->recent > 1 ? ", spares the last " + text(c.gate->recent - 1) : "")
                      : "none");
  std::string kv;
  for (const Format format : cache_formats)
    if (const auto bytes = kv_bytes_per_token(c, format))
      kv += (kv.empty() ? "" : ", ") + bytes_text(*bytes) + " as " + std::string(name(format));
  line("a kept token", kv);

  std::size_t widest = 0;
  for (const TensorInfo& t : model.tensors()) widest = std::max(widest, t.name.size());
  std::cout << '\n';
  for (const TensorInfo& t : model.tensors())
    std::cout << std::left << std::setw(static_cast<int>(widest)) << t.name << "  " << std::setw(5) << t.format << ' '
              << shape_text(t.shape) << '\n';
}

Exit inspect(const InspectOptions& options, const Tool& tool) {
  const Model model = load(options.model);
  tool.json ? print_json(model) : print_table(model);
  return Exit::ok;
}

}  // namespace

void add_inspect(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<InspectOptions>(app, tool, "inspect", "What is in a model", inspect);
  add_model_path(command, options.model);
  add_gates(command, options.model);
}

}  // namespace pith::tool
