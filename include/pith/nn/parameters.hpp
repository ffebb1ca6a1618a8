// SPDX-License-Identifier: MIT
// Every tensor that a model is made of, one line each: whoever loads, checks, counts, makes or writes them walks here.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "pith/nn/config.hpp"
#include "pith/nn/weights.hpp"

namespace pith::inline nn {

enum class Role : std::uint8_t {
  embedding,
  positions,
  final_norm,
  head,
  attention_norm,
  wq,
  wk,
  wv,
  wo,
  q_norm,
  k_norm,
  drop_gate_q,
  drop_gate_k,
  drop_gate_bias,
  post_attention_norm,
  mlp_norm,
  mlp_gate,
  mlp_up,
  mlp_down,
  router,
  expert_gate,
  expert_up,
  expert_down,
  post_mlp_norm,
};
inline constexpr auto role_count = static_cast<std::size_t>(Role::post_mlp_norm) + 1;

inline bool is_drop_gate(Role role) {
  return role == Role::drop_gate_q || role == Role::drop_gate_k || role == Role::drop_gate_bias;
}

/// What most models' files call a tensor, without its suffix; {} stands for the layer, a second one for the expert.
/// Empty: it has no usual name there, or none at all. A family of models that has names of its own gives them in
/// src/nn/arch/.
struct TensorNames {
  std::string_view hugging_face, gguf;
};

struct Parameter {
  Role role = Role::embedding;
  TensorNames names = {};
  std::optional<std::size_t> layer = {};
  std::optional<std::size_t> expert = {};
  std::string_view suffix = ".weight";  // of its name in files: ".weight", ".bias" or nothing
  bool present = true;                  // by the plan
  std::size_t rows = 0;                 // out_features, or the numbers of a vector
  std::size_t cols = 0;                 // in_features; 0: a vector
  bool rotated = false;                 // its rows are those of heads, turned in pairs (Config::rope_pairs)
  bool exact = false;                   // never quantised: a table of positions, a gate, a router
  bool plus_one = false;                // multiplies as 1 + itself

  std::size_t numbers() const { return cols == 0 ? rows : rows * cols; }
};

namespace detail {

enum class Rows : std::uint8_t { plain, rotated };

/// Calls f(parameter, where it is kept) for what a Weights or LayerWeights keeps together.
template <class F>
struct Lines {
  std::optional<std::size_t> layer;
  F& f;

  template <class M>
  void matrix(Role role, const TensorNames& names, M& m, std::size_t rows, std::size_t cols, bool present,
              bool exact = false) const {
    Parameter p{.role = role, .names = names, .layer = layer, .present = present, .rows = rows, .cols = cols};
    p.exact = exact;
    f(p, m);
  }

  template <class L>
  void linear(Role role, const TensorNames& names, L& w, std::size_t rows, std::size_t cols, bool bias,
              Rows order = Rows::plain, bool present = true) const {
    Parameter p{.role = role, .names = names, .layer = layer, .present = present, .rows = rows, .cols = cols};
    p.rotated = order == Rows::rotated;
    f(p, w.weight);
    p.suffix = ".bias";
    p.present = present && bias;
    p.cols = 0;
    f(p, w.bias);
  }

  /// `list` gets as many as there should be; one that is const is taken to have what it lacks empty.
  template <class E>
  void experts(Role role, const TensorNames& names, E& list, Linear MlpWeights::*which, std::size_t count,
               std::size_t rows, std::size_t cols, bool bias, bool present) const {
    if constexpr (!std::is_const_v<E>) list.resize(count);
    [[maybe_unused]] static const MlpWeights none;
    for (std::size_t i = 0; i < std::max(count, list.size()); ++i) {
      const auto one = [&](Parameter p, auto& kept) {
        p.expert = i;
        f(p, kept);
      };
      const Lines<decltype(one)> line{layer, one};
      const bool there = present && i < count;
      if constexpr (std::is_const_v<E>) {
        line.linear(role, names, (i < list.size() ? list[i] : none).*which, rows, cols, bias, Rows::plain, there);
      } else {
        line.linear(role, names, list[i].*which, rows, cols, bias, Rows::plain, there);
      }
    }
  }

  template <class N>
  void norm(Role role, const TensorNames& names, N& w, Norm norm, std::size_t n, bool present = true,
            Rows order = Rows::plain) const {
    Parameter p{.role = role, .names = names, .layer = layer, .present = present, .rows = n};
    p.rotated = order == Rows::rotated;
    p.plus_one = norm == Norm::rms_plus_one;
    f(p, w.weight);
    p.suffix = ".bias";
    p.present = present && norm == Norm::layer;
    p.plus_one = false;
    f(p, w.bias);
  }
};

}  // namespace detail

/// Calls f(parameter, kept) for all that layer `layer` of a plan could have, present or not; w is a LayerWeights or a
/// const one, and `kept` its Matrix or std::vector<float>.
template <class Layer, class F>
void for_each_slot(const Config& config, std::size_t layer, Layer& w, F&& f) {
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  const std::size_t d = size(config.d_model), head_dim = size(config.head_dim);
  const std::size_t dq = size(config.d_query()), dkv = size(config.d_kv());
  const std::size_t gates = size(config.gates()), r = config.gate ? size(config.gate->dim) : 0;
  const LayerPlan& plan = config.layers[layer];
  const std::size_t ff = size(config.d_ff_of(plan)), experts = size(plan.experts.count);
  const bool gated = plan.mlp == Mlp::gated;
  const bool qk_norm = plan.qk_norm != QkNorm::none, per_head = plan.qk_norm == QkNorm::head;
  const bool own_kv = plan.kv_from < 0, drop_gate = own_kv && config.gate.has_value(), exact = true;

  const detail::Lines<std::remove_reference_t<F>> line{layer, f};
  using enum detail::Rows;
  line.norm(Role::attention_norm, {"model.layers.{}.input_layernorm", "blk.{}.attn_norm"}, w.attention_norm, plan.norm,
            d, plan.pre_norms);
  line.linear(Role::wq, {"model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"}, w.wq, dq, d, plan.qkv_bias, rotated);
  line.linear(Role::wk, {"model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"}, w.wk, dkv, d, plan.qkv_bias, rotated,
              own_kv);
  line.linear(Role::wv, {"model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"}, w.wv, dkv, d, plan.qkv_bias, plain,
              own_kv);
  line.linear(Role::wo, {"model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"}, w.wo, d, dq, plan.o_bias);
  line.norm(Role::q_norm, {"model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"}, w.q_norm, plan.norm,
            per_head ? head_dim : dq, qk_norm, rotated);
  line.norm(Role::k_norm, {"model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"}, w.k_norm, plan.norm,
            per_head ? head_dim : dkv, qk_norm && own_kv, rotated);
  line.matrix(Role::drop_gate_q, {"model.layers.{}.self_attn.q_int", "blk.{}.attn_q_int"}, w.drop_gate.wq, gates * r, d,
              drop_gate, exact);
  line.matrix(Role::drop_gate_k, {"model.layers.{}.self_attn.k_int", "blk.{}.attn_k_int"}, w.drop_gate.wk, gates * r, d,
              drop_gate, exact);
  f(Parameter{.role = Role::drop_gate_bias,
              .names = {"model.layers.{}.self_attn.int_bias", "blk.{}.attn_int_bias"},
              .layer = layer,
              .suffix = "",
              .present = drop_gate,
              .rows = gates},
    w.drop_gate.bias);
  line.norm(Role::post_attention_norm, {"", "blk.{}.post_attention_norm"}, w.post_attention_norm, plan.norm, d,
            plan.post_norms);
  line.norm(Role::mlp_norm, {"model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"}, w.mlp_norm, plan.norm, d,
            plan.pre_norms);
  line.linear(Role::mlp_gate, {"model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"}, w.mlp.gate, ff, d, plan.mlp_bias,
              plain, gated && experts == 0);
  line.linear(Role::mlp_up, {"model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"}, w.mlp.up, ff, d, plan.mlp_bias, plain,
              experts == 0);
  line.linear(Role::mlp_down, {"model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"}, w.mlp.down, d, ff, plan.mlp_bias,
              plain, experts == 0);
  line.matrix(Role::router, {"model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp"}, w.router, experts, d, experts > 0,
              exact);
  line.experts(Role::expert_gate, {"model.layers.{}.mlp.experts.{}.gate_proj", "blk.{}.ffn_gate_exps"}, w.experts,
               &MlpWeights::gate, experts, ff, d, plan.mlp_bias, gated);
  line.experts(Role::expert_up, {"model.layers.{}.mlp.experts.{}.up_proj", "blk.{}.ffn_up_exps"}, w.experts,
               &MlpWeights::up, experts, ff, d, plan.mlp_bias, true);
  line.experts(Role::expert_down, {"model.layers.{}.mlp.experts.{}.down_proj", "blk.{}.ffn_down_exps"}, w.experts,
               &MlpWeights::down, experts, d, ff, plan.mlp_bias, true);
  line.norm(Role::post_mlp_norm, {"model.layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm"},
            w.post_mlp_norm, plan.norm, d, plan.post_norms);
}

/// The same for what is in no layer; `layers()` is called where those of the layers come in a file.
template <class W, class F, class Layers>
void for_each_slot_around(const Config& config, W& w, F&& f, Layers&& layers) {
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  const std::size_t d = size(config.d_model), vocab = size(config.vocab_size);
  const bool exact = true;

  const detail::Lines<std::remove_reference_t<F>> line{{}, f};
  line.matrix(Role::embedding, {"model.embed_tokens", "token_embd"}, w.embedding, vocab, d, true);
  line.matrix(Role::positions, {"", "position_embd"}, w.positions, size(config.context), d, config.learned_positions,
              exact);
  layers();
  line.norm(Role::final_norm, {"model.norm", "output_norm"}, w.final_norm, config.final_norm, d);
  line.matrix(Role::head, {"lm_head", "output"}, w.head, vocab, d, !config.tied_head);
}

/// Those that are present.
template <class Layer, class F>
void for_each_parameter(const Config& config, std::size_t layer, Layer& w, F&& f) {
  for_each_slot(config, layer, w, [&](const Parameter& p, auto& kept) {
    if (p.present) f(p, kept);
  });
}
template <class W, class F, class Layers>
void for_each_parameter_around(const Config& config, W& w, F&& f, Layers&& layers) {
  for_each_slot_around(
      config, w,
      [&](const Parameter& p, auto& kept) {
        if (p.present) f(p, kept);
      },
      std::forward<Layers>(layers));
}

/// All parameters of a model, in the order of a file; w is a Weights or a const one, with all its layers.
template <class W, class F>
void for_each_parameter(const Config& config, W& w, F&& f) {
  for_each_parameter_around(config, w, f, [&] {
    for (std::size_t i = 0; i < config.layers.size(); ++i) for_each_parameter(config, i, w.layers[i], f);
  });
}

}  // namespace pith::inline nn
