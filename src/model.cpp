// SPDX-License-Identifier: MIT
#include "pith/model.hpp"

#include <string>
#include <string_view>

#include "checkpoint.hpp"
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

std::string of_layer(std::string_view name, std::size_t layer) {
  const auto hole = name.find("{}");
  return std::string(name.substr(0, hole)) + std::to_string(layer) + std::string(name.substr(hole + 2));
}

/// Fetches the parameters of one architecture by their names.
class Loader {
 public:
  explicit Loader(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        native_(config_.architecture == Architecture::gpt2 ? gpt2_names : llama_names),
        names_(checkpoint.container() == Checkpoint::Container::gguf ? gguf_names : native_),
        layout_(config_.architecture == Architecture::gpt2 &&
                        checkpoint.container() == Checkpoint::Container::hugging_face
                    ? Checkpoint::Layout::in_out  // Conv1D
                    : Checkpoint::Layout::out_in) {}

  template <class Arch>
  Weights load() {
    const auto vocab = size(config_.vocab_size), d = size(config_.d_model);
    Weights w;
    w.embedding = matrix(names_.embedding, vocab, d);
    if constexpr (!Arch::rotary) w.positions = matrix(names_.positions, size(config_.context), d);
    w.final_norm = norm<typename Arch::Norm>(std::string(names_.final_norm), d);
    w.head = config_.tied_head ? w.embedding : matrix(names_.head, vocab, d);
    for (std::size_t i = 0; i < size(config_.n_layers); ++i) w.layers.push_back(layer<Arch>(i));
    return w;
  }

 private:
  template <class Arch>
  LayerWeights layer(std::size_t i) {
    const auto d = size(config_.d_model), ff = size(config_.d_ff);
    const auto dq = size(config_.d_query()), dkv = size(config_.d_kv());
    const auto name = [&](std::string_view pattern) { return of_layer(pattern, i); };
    LayerWeights w;
    w.attention_norm = norm<typename Arch::Norm>(name(names_.attention_norm), d);
    if (!names_.wqkv.empty() && checkpoint_.has(name(names_.wqkv) + ".weight")) {
      const Linear qkv = linear(name(names_.wqkv), dq + 2 * dkv, d, config_.attention_bias);
      w.wq = slice(qkv, 0, dq);
      w.wk = slice(qkv, dq, dkv);
      w.wv = slice(qkv, dq + dkv, dkv);
    } else if (names_.wq.empty()) {
      linear(name(names_.wqkv), dq + 2 * dkv, d, config_.attention_bias);  // says what is missing
    } else {
      w.wq = linear(name(names_.wq), dq, d, config_.attention_bias);
      w.wk = linear(name(names_.wk), dkv, d, config_.attention_bias);
      w.wv = linear(name(names_.wv), dkv, d, config_.attention_bias);
    }
    w.wo = linear(name(names_.wo), d, dq, config_.attention_bias && config_.architecture != Architecture::qwen2);
    if (config_.architecture == Architecture::qwen3) {
      w.q_norm = norm<RmsNorm>(name(names_.q_norm), size(config_.head_dim));
      w.k_norm = norm<RmsNorm>(name(names_.k_norm), size(config_.head_dim));
    }
    if (config_.gate) w.drop_gate = drop_gate(i);
    w.mlp_norm = norm<typename Arch::Norm>(name(names_.mlp_norm), d);
    if constexpr (Arch::Mlp::gated) w.gate = linear(name(names_.gate), ff, d, config_.mlp_bias);
    w.up = linear(name(names_.up), ff, d, config_.mlp_bias);
    w.down = linear(name(names_.down), d, ff, config_.mlp_bias);
    return w;
  }

  /// Gates may lie over a checkpoint under the names of its Hugging Face form.
  DropGateWeights drop_gate(std::size_t i) {
    const auto r = size(config_.gate->dim), d = size(config_.d_model);
    const TensorNames& names = checkpoint_.has(of_layer(names_.gate_q, i) + ".weight") ? names_ : native_;
    DropGateWeights w;
    w.wq = checkpoint_.matrix(of_layer(names.gate_q, i) + ".weight", r, d);
    w.wk = checkpoint_.matrix(of_layer(names.gate_k, i) + ".weight", r, d);
    // The gate decides for good: its arithmetic stays in f32.
    for (const Matrix* m : {&w.wq, &w.wk})
      if (block_values(m->format()) > 1)
        fail(ErrorCode::unsupported, of_layer(names.gate_q, i), "a gate in f32, f16 or bf16", name(m->format()));
    w.bias = checkpoint_.vector(of_layer(names.gate_bias, i), 1)[0];
    return w;
  }

  Matrix matrix(std::string_view name, std::size_t rows, std::size_t cols) {
    return checkpoint_.matrix(std::string(name) + ".weight", rows, cols);
  }

  Linear linear(const std::string& name, std::size_t rows, std::size_t cols, bool bias) {
    Linear w{checkpoint_.matrix(name + ".weight", rows, cols, layout_), {}};
    if (bias) w.bias = checkpoint_.vector(name + ".bias", rows);
    return w;
  }

  static Linear slice(const Linear& w, std::size_t first, std::size_t count) {
    Linear part{w.weight.rows_from(first, count), {}};
    if (!w.bias.empty()) part.bias.assign(w.bias.begin() + diff(first), w.bias.begin() + diff(first + count));
    return part;
  }

  template <class Norm>
  NormWeights norm(const std::string& name, std::size_t n) {
    NormWeights w{checkpoint_.vector(name + ".weight", n), {}};
    if constexpr (Norm::has_bias) w.bias = checkpoint_.vector(name + ".bias", n);
    return w;
  }

  static std::size_t size(int n) { return static_cast<std::size_t>(n); }
  static std::ptrdiff_t diff(std::size_t n) { return static_cast<std::ptrdiff_t>(n); }

  const Checkpoint& checkpoint_;
  const Config& config_;
  const TensorNames& native_;
  const TensorNames& names_;
  Checkpoint::Layout layout_;
};

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
    for (const Linear* l : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.gate, &layer.up, &layer.down})
      linear(*l);
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
