// SPDX-License-Identifier: MIT
// From the named tensors of a checkpoint to the parameters of an architecture.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint.hpp"
#include "pith/error.hpp"
#include "pith/nn/arch.hpp"
#include "pith/nn/weights.hpp"

namespace pith {

inline std::string of_layer(std::string_view name, std::size_t layer) {
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
    Weights w = all_but_layers<Arch>();
    for (std::size_t i = 0; i < size(config_.n_layers); ++i) w.layers.push_back(layer<Arch>(i));
    return w;
  }

  template <class Arch>
  Weights all_but_layers() {
    const auto vocab = size(config_.vocab_size), d = size(config_.d_model);
    Weights w;
    w.embedding = matrix(names_.embedding, vocab, d);
    if constexpr (!Arch::rotary) w.positions = matrix(names_.positions, size(config_.context), d);
    w.final_norm = norm<typename Arch::Norm>(std::string(names_.final_norm), d);
    w.head = config_.tied_head ? w.embedding : matrix(names_.head, vocab, d);
    return w;
  }

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

 private:
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

}  // namespace pith
