// SPDX-License-Identifier: MIT
#include "pith/synthetic.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "pith/error.hpp"
#include "pith/tensor/ops.hpp"

namespace pith {
namespace {

struct Shape {
  std::string_view name;
  Architecture architecture;
  int layers, d_model, heads, kv_heads, head_dim, d_ff, vocab, context;
  bool tied, attention_bias, mlp_bias;
  float theta;
};

constexpr Shape shapes[] = {
    {"gpt2-124m", Architecture::gpt2, 12, 768, 12, 12, 64, 3072, 50257, 1024, true, true, true, 0},
    {"smollm2-135m", Architecture::llama, 30, 576, 9, 3, 64, 1536, 49152, 8192, true, false, false, 1e5f},
    {"qwen2.5-0.5b", Architecture::qwen2, 24, 896, 14, 2, 64, 4864, 151936, 32768, true, true, false, 1e6f},
    {"llama-1.1b", Architecture::llama, 22, 2048, 32, 4, 64, 5632, 32000, 2048, false, false, false, 1e4f},
    {"llama-3.2-1b", Architecture::llama, 16, 2048, 32, 8, 64, 8192, 128256, 131072, true, false, false, 5e5f},
};

const Shape& shape_named(std::string_view name) {
  std::string names;
  for (const Shape& shape : shapes) {
    if (shape.name == name) return shape;
    names.append(names.empty() ? "" : ", ").append(shape.name);
  }
  fail(ErrorCode::unsupported, "synthetic model", "one of " + names, name);
}

class Maker {
 public:
  Maker(const Shape& shape, Format format) : shape_(shape), format_(format) {}

  Weights weights(const Config& config) {
    const auto size = [](int n) { return static_cast<std::size_t>(n); };
    const auto d = size(config.d_model), dq = size(config.d_query()), dkv = size(config.d_kv()), ff = size(config.d_ff);
    Weights w;
    w.embedding = matrix(size(config.vocab_size), d, 1);
    if (config.architecture == Architecture::gpt2) w.positions = matrix(size(config.context), d, 0.1, Format::f32);
    w.final_norm = norm(d);
    w.head = shape_.tied ? w.embedding : matrix(size(config.vocab_size), d, gain(d));
    for (int i = 0; i < config.n_layers; ++i) {
      LayerWeights layer;
      layer.attention_norm = norm(d);
      layer.wq = linear(dq, d, shape_.attention_bias);
      layer.wk = linear(dkv, d, shape_.attention_bias);
      layer.wv = linear(dkv, d, shape_.attention_bias);
      layer.wo = linear(d, dq, shape_.attention_bias && config.architecture == Architecture::gpt2);
      layer.mlp_norm = norm(d);
      if (config.architecture != Architecture::gpt2) layer.gate = linear(ff, d, shape_.mlp_bias);
      layer.up = linear(ff, d, shape_.mlp_bias);
      layer.down = linear(d, ff, shape_.mlp_bias);
      if (config.gate) {
        layer.drop_gate.wq = matrix(size(config.gate->dim), d, gain(d), Format::f16);
        layer.drop_gate.wk = matrix(size(config.gate->dim), d, gain(d), Format::f16);
      }
      w.layers.push_back(std::move(layer));
    }
    return w;
  }

 private:
  // Keeps the residual stream from growing out of range over the layers.
  static double gain(std::size_t inputs) { return 0.7 / std::sqrt(static_cast<double>(inputs)); }

  Matrix matrix(std::size_t rows, std::size_t cols, double deviation) { return matrix(rows, cols, deviation, format_); }

  Matrix matrix(std::size_t rows, std::size_t cols, double deviation, Format format) {
    for (const Format less : {Format::q8_0, Format::f32})
      if (cols % static_cast<std::size_t>(block_values(format)) != 0) format = less;
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

  Linear linear(std::size_t rows, std::size_t cols, bool bias) {
    return {matrix(rows, cols, gain(cols)), std::vector<float>(bias ? rows : 0, 0.01f)};
  }

  NormWeights norm(std::size_t n) const {
    return {std::vector<float>(n, 1.0f), std::vector<float>(shape_.architecture == Architecture::gpt2 ? n : 0, 0.01f)};
  }

  const Shape& shape_;
  Format format_;
  std::mt19937_64 engine_{1};
};

}  // namespace

std::vector<std::string_view> synthetic_shapes() {
  std::vector<std::string_view> names;
  for (const Shape& shape : shapes) names.push_back(shape.name);
  return names;
}

Model synthetic_model(std::string_view name, const SyntheticOptions& options) {
  const Shape& shape = shape_named(name);
  Config config;
  config.architecture = shape.architecture;
  config.vocab_size = shape.vocab;
  config.d_model = shape.d_model;
  config.n_layers = shape.layers;
  config.n_heads = shape.heads;
  config.n_kv_heads = shape.kv_heads;
  config.head_dim = shape.head_dim;
  config.d_ff = shape.d_ff;
  config.context = options.context > 0 ? options.context : shape.context;
  config.activation = shape.architecture == Architecture::gpt2 ? Activation::gelu_tanh : Activation::silu;
  config.tied_head = shape.tied;
  config.attention_bias = shape.attention_bias;
  config.mlp_bias = shape.mlp_bias;
  config.rope.theta = shape.theta;
  if (shape.architecture == Architecture::gpt2 && config.context > shape.context)
    fail(ErrorCode::argument, std::string(name), "at most its " + std::to_string(shape.context) + " learned positions",
         std::to_string(config.context));
  if (options.gate_dim > 0) config.gate = DropGateConfig{.dim = options.gate_dim};
  return Model::create(config, Maker(shape, options.format).weights(config));
}

}  // namespace pith
