// SPDX-License-Identifier: MIT
#include "pith/model.hpp"

#include <string>
#include <string_view>

#include "checkpoint.hpp"
#include "loader.hpp"
#include "pith/error.hpp"
#include "pith/nn/arch.hpp"
#include "pith/nn/attention.hpp"

namespace pith {

struct Model::Impl {
  Config config;
  Weights weights;
  std::vector<TensorInfo> tensors;
};

namespace {

/// Throws where a parameter given in memory does not fit the config.
template <class Arch>
void check(const Config& config, const Weights& weights) {
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  const auto shape = [](const char* what, const Matrix& m, std::size_t rows, std::size_t cols) {
    if (m.rows() != rows || m.cols() != cols)
      fail(ErrorCode::model, what, "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]",
           "[" + std::to_string(m.rows()) + ", " + std::to_string(m.cols()) + "]");
  };
  const auto length = [](const char* what, const std::vector<float>& v, std::size_t n) {
    if (v.size() != n) fail(ErrorCode::model, what, std::to_string(n) + " numbers", std::to_string(v.size()));
  };
  const auto linear = [&](const char* what, const Linear& w, std::size_t rows, std::size_t cols) {
    shape(what, w.weight, rows, cols);
    if (!w.bias.empty()) length(what, w.bias, rows);
  };
  const auto norm = [&](const char* what, const NormWeights& w, std::size_t n) {
    length(what, w.weight, n);
    if (Arch::Norm::has_bias) length(what, w.bias, n);
  };
  const auto vocab = size(config.vocab_size), d = size(config.d_model), ff = size(config.d_ff);
  const auto dq = size(config.d_query()), dkv = size(config.d_kv());
  shape("embedding", weights.embedding, vocab, d);
  shape("head", weights.head, vocab, d);
  if (!Arch::rotary) shape("positions", weights.positions, size(config.context), d);
  norm("final norm", weights.final_norm, d);
  if (weights.layers.size() != size(config.n_layers))
    fail(ErrorCode::model, "layers", std::to_string(config.n_layers), std::to_string(weights.layers.size()));
  for (const LayerWeights& w : weights.layers) {
    norm("attention norm", w.attention_norm, d);
    linear("wq", w.wq, dq, d);
    linear("wk", w.wk, dkv, d);
    linear("wv", w.wv, dkv, d);
    linear("wo", w.wo, d, dq);
    for (const NormWeights* n : {&w.q_norm, &w.k_norm})
      if (!n->weight.empty()) length("query and key norm", n->weight, size(config.head_dim));
    if (config.gate) {
      shape("drop gate wq", w.drop_gate.wq, size(config.gate->dim), d);
      shape("drop gate wk", w.drop_gate.wk, size(config.gate->dim), d);
    }
    norm("mlp norm", w.mlp_norm, d);
    if (Arch::Mlp::gated) linear("gate", w.gate, ff, d);
    linear("up", w.up, ff, d);
    linear("down", w.down, d, ff);
  }
}

void check_config(const Config& config) {
  const auto positive = [](const char* what, int n) {
    if (n <= 0) fail(ErrorCode::model, what, "a positive number", std::to_string(n));
  };
  positive("vocab_size", config.vocab_size);
  positive("d_model", config.d_model);
  positive("n_layers", config.n_layers);
  positive("n_heads", config.n_heads);
  positive("n_kv_heads", config.n_kv_heads);
  positive("head_dim", config.head_dim);
  positive("d_ff", config.d_ff);
  positive("context", config.context);
  if (config.n_heads % config.n_kv_heads != 0)
    fail(ErrorCode::model, "n_heads", "a multiple of " + std::to_string(config.n_kv_heads) + " kv-heads",
         std::to_string(config.n_heads));
  if (static_cast<std::size_t>(config.head_dim) > max_head_dim)
    fail(ErrorCode::unsupported, "head_dim", "at most " + std::to_string(max_head_dim),
         std::to_string(config.head_dim));
  if (!config.sliding_window.empty() && config.sliding_window.size() != static_cast<std::size_t>(config.n_layers))
    fail(ErrorCode::model, "sliding_window", "one per layer", std::to_string(config.sliding_window.size()));
  if (config.gate && (config.gate->dim <= 0 || config.gate->recent < 1))
    fail(ErrorCode::model, "drop_gate", "dim > 0 and recent >= 1",
         std::to_string(config.gate->dim) + " and " + std::to_string(config.gate->recent));
}

}  // namespace

Model Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(path, options.gates);
  check_config(checkpoint.config());
  auto impl = std::make_shared<Impl>();
  impl->config = checkpoint.config();
  impl->weights = visit(impl->config, [&]<class Arch>() { return Loader(checkpoint).load<Arch>(); });
  for (const auto& [name, tensor] : checkpoint.tensors())
    impl->tensors.push_back({name, tensor.supported ? std::string(pith::name(tensor.format)) : tensor.dtype,
                             tensor.shape, tensor.bytes.size()});
  return Model(std::move(impl));
}

Model Model::create(Config config, Weights weights) {
  check_config(config);
  visit(config, [&]<class Arch>() { check<Arch>(config, weights); });
  auto impl = std::make_shared<Impl>();
  impl->config = std::move(config);
  impl->weights = std::move(weights);
  return Model(std::move(impl));
}

const Config& Model::config() const { return impl_->config; }
const Weights& Model::weights() const { return impl_->weights; }
const std::vector<TensorInfo>& Model::tensors() const { return impl_->tensors; }

namespace {

/// Calls f(numbers, bytes) for every parameter, a tied head once.
template <class F>
void for_each_parameter(const Weights& w, F&& f) {
  const auto matrix = [&](const Matrix& m) { f(m.rows() * m.cols(), m.bytes()); };
  const auto vector = [&](const std::vector<float>& v) { f(v.size(), v.size() * sizeof(float)); };
  const auto linear = [&](const Linear& l) { matrix(l.weight), vector(l.bias); };
  const auto norm = [&](const NormWeights& n) { vector(n.weight), vector(n.bias); };
  matrix(w.embedding);
  matrix(w.positions);
  if (w.head.data() != w.embedding.data()) matrix(w.head);
  norm(w.final_norm);
  for (const LayerWeights& layer : w.layers) {
    for (const NormWeights* n : {&layer.attention_norm, &layer.q_norm, &layer.k_norm, &layer.mlp_norm}) norm(*n);
    for (const Linear* l : layer.linears()) linear(*l);
    if (layer.drop_gate.wq) {
      matrix(layer.drop_gate.wq);
      matrix(layer.drop_gate.wk);
      f(std::size_t{1}, sizeof(float));
    }
  }
}

}  // namespace

std::uint64_t Model::parameters() const {
  std::uint64_t sum = 0;
  for_each_parameter(weights(), [&](std::size_t numbers, std::size_t) { sum += numbers; });
  return sum;
}

std::uint64_t Model::bytes() const {
  std::uint64_t sum = 0;
  for_each_parameter(weights(), [&](std::size_t, std::size_t bytes) { sum += bytes; });
  return sum;
}

}  // namespace pith
