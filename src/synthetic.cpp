// SPDX-License-Identifier: MIT
#include "pith/synthetic.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>

#include "files/json.hpp"
#include "nn/arch/config.hpp"
#include "pith/error.hpp"
#include "pith/nn/parameters.hpp"
#include "pith/tensor/ops.hpp"

namespace pith {
namespace {

/// Names, and what the models' config.json says.
constexpr std::pair<std::string_view, const char*> shapes[] = {
    {"gpt2-124m",
     R"({"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024})"},
    {"smollm2-135m", R"({"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30,
      "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "max_position_embeddings": 8192,
      "tie_word_embeddings": true, "rms_norm_eps": 1e-5, "rope_theta": 100000})"},
    {"qwen2.5-0.5b", R"({"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "num_hidden_layers": 24,
      "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
      "max_position_embeddings": 32768, "tie_word_embeddings": true, "rms_norm_eps": 1e-6, "rope_theta": 1000000})"},
    {"llama-1.1b", R"({"model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 22,
      "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 5632, "max_position_embeddings": 2048,
      "rms_norm_eps": 1e-5})"},
    {"llama-3.2-1b", R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16,
      "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192,
      "max_position_embeddings": 131072, "tie_word_embeddings": true, "rms_norm_eps": 1e-5, "rope_theta": 500000})"},
};

Config config_named(std::string_view name) {
  std::string names;
  for (const auto& [shape, config] : shapes) {
    if (shape == name) return read_config(parse_json(config, shape), shape);
    names.append(names.empty() ? "" : ", ").append(shape);
  }
  fail(ErrorCode::unsupported, "synthetic model", "one of " + names, name);
}

/// Gives every parameter its random numbers.
class Maker {
 public:
  explicit Maker(Format format) : format_(format) {}

  void operator()(const Parameter& p, Matrix& out) {
    if (p.role == Role::embedding) {
      out = matrix(p.rows, p.cols, 1, format_);
    } else if (p.role == Role::positions) {
      out = matrix(p.rows, p.cols, 0.1, Format::f32);
    } else {
      out = matrix(p.rows, p.cols, gain(p.cols), p.exact ? Format::f16 : format_);
    }
  }
  void operator()(const Parameter& p, std::vector<float>& out) const {
    const bool zero = p.plus_one || is_drop_gate(p.role);
    out.assign(p.rows, p.suffix == ".bias" ? 0.01f : zero ? 0.0f : 1.0f);
  }

 private:
  // Keeps the residual stream from growing out of range over the layers.
  static double gain(std::size_t inputs) { return 0.7 / std::sqrt(static_cast<double>(inputs)); }

  Matrix matrix(std::size_t rows, std::size_t cols, double deviation, Format wanted) {
    const Format format = fitting(wanted, cols);
    constexpr std::size_t different = 64;  // rows
    const auto storage = std::make_shared<Tensor<std::byte>>();
    storage->resize(rows, row_bytes(format, cols));
    std::vector<float> row(cols);
    std::normal_distribution<float> normal(0, static_cast<float>(deviation));
    for (std::size_t r = 0; r < rows; ++r) {
      if (r >= different) {
        std::memcpy((*storage)[r].data(), (*storage)[engine_() % different].data(), storage->cols());
        continue;
      }
      for (float& value : row) value = normal(engine_);
      ops::encode(format, row.data(), cols, (*storage)[r].data());
    }
    return Matrix(format, rows, cols, {storage->data(), rows * storage->cols()}, storage);
  }

  Format format_;
  std::mt19937_64 engine_{1};
};

}  // namespace

std::vector<std::string_view> synthetic_shapes() {
  std::vector<std::string_view> names;
  for (const auto& [shape, config] : shapes) names.push_back(shape);
  return names;
}

Model synthetic_model(std::string_view name, const SyntheticOptions& options) {
  Config config = config_named(name);
  if (config.learned_positions && options.context > config.context)
    fail(ErrorCode::argument, std::string(name), "at most its " + std::to_string(config.context) + " learned positions",
         std::to_string(options.context));
  if (options.context > 0) config.context = options.context;
  if (options.gate_dim > 0) config.gate = DropGateConfig{.dim = options.gate_dim};
  Weights weights;
  weights.layers.resize(config.layers.size());
  for_each_parameter(config, weights, Maker(options.format));
  return Model::create(std::move(config), std::move(weights));
}

}  // namespace pith
