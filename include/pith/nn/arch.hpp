// SPDX-License-Identifier: MIT
// Architectures: each a struct of choices, and the names of its tensors in the containers it comes in.
#pragma once

#include <string_view>
#include <utility>

#include "pith/error.hpp"
#include "pith/nn/config.hpp"
#include "pith/nn/mlp.hpp"
#include "pith/nn/norm.hpp"

namespace pith::inline nn {

/// GPT-2: learned positions, LayerNorm, plain MLP.
template <class Act>
struct Gpt2 {
  using Norm = LayerNorm;
  using Mlp = Plain<Act>;
  static constexpr bool rotary = false;
};

/// Llama 1-3, Mistral, Qwen 2 and 3: rotary positions, RMSNorm, gated MLP. Biases, query and key norms and sliding
/// windows are there when the weights and the config have them.
struct Llama {
  using Norm = RmsNorm;
  using Mlp = Gated<Silu>;
  static constexpr bool rotary = true;
};

/// The one place where a config becomes a type: calls `f.template operator()<Arch>()`.
/// Throws Error (unsupported) for an activation that the architecture does not come with.
template <class F>
decltype(auto) visit(const Config& config, F&& f) {
  if (config.architecture == Architecture::gpt2) {
    if (config.activation == Activation::gelu_tanh) return std::forward<F>(f).template operator()<Gpt2<GeluTanh>>();
    if (config.activation == Activation::gelu) return std::forward<F>(f).template operator()<Gpt2<Gelu>>();
  } else if (config.activation == Activation::silu) {
    return std::forward<F>(f).template operator()<Llama>();
  }
  fail(ErrorCode::unsupported, "activation of " + std::string(name(config.architecture)),
       config.architecture == Architecture::gpt2 ? "gelu or gelu_new" : "silu", "another");
}

/// Names of tensors, without their ".weight" or ".bias"; {} stands for the layer. Empty: there is no such tensor.
struct TensorNames {
  std::string_view embedding, positions, final_norm, head;
  std::string_view attention_norm, wqkv, wq, wk, wv, wo, q_norm, k_norm;
  std::string_view gate_q, gate_k, gate_bias;  // gate_bias: the whole name
  std::string_view mlp_norm, gate, up, down;
};

inline constexpr TensorNames gpt2_names = {
    .embedding = "transformer.wte",
    .positions = "transformer.wpe",
    .final_norm = "transformer.ln_f",
    .head = "lm_head",
    .attention_norm = "transformer.h.{}.ln_1",
    .wqkv = "transformer.h.{}.attn.c_attn",
    .wq = "",
    .wk = "",
    .wv = "",
    .wo = "transformer.h.{}.attn.c_proj",
    .q_norm = "",
    .k_norm = "",
    .gate_q = "transformer.h.{}.attn.q_int",
    .gate_k = "transformer.h.{}.attn.k_int",
    .gate_bias = "transformer.h.{}.attn.int_bias",
    .mlp_norm = "transformer.h.{}.ln_2",
    .gate = "",
    .up = "transformer.h.{}.mlp.c_fc",
    .down = "transformer.h.{}.mlp.c_proj",
};

inline constexpr TensorNames llama_names = {
    .embedding = "model.embed_tokens",
    .positions = "",
    .final_norm = "model.norm",
    .head = "lm_head",
    .attention_norm = "model.layers.{}.input_layernorm",
    .wqkv = "",
    .wq = "model.layers.{}.self_attn.q_proj",
    .wk = "model.layers.{}.self_attn.k_proj",
    .wv = "model.layers.{}.self_attn.v_proj",
    .wo = "model.layers.{}.self_attn.o_proj",
    .q_norm = "model.layers.{}.self_attn.q_norm",
    .k_norm = "model.layers.{}.self_attn.k_norm",
    .gate_q = "model.layers.{}.self_attn.q_int",
    .gate_k = "model.layers.{}.self_attn.k_int",
    .gate_bias = "model.layers.{}.self_attn.int_bias",
    .mlp_norm = "model.layers.{}.post_attention_layernorm",
    .gate = "model.layers.{}.mlp.gate_proj",
    .up = "model.layers.{}.mlp.up_proj",
    .down = "model.layers.{}.mlp.down_proj",
};

/// GGUF names the tensors of all architectures alike.
inline constexpr TensorNames gguf_names = {
    .embedding = "token_embd",
    .positions = "position_embd",
    .final_norm = "output_norm",
    .head = "output",
    .attention_norm = "blk.{}.attn_norm",
    .wqkv = "blk.{}.attn_qkv",
    .wq = "blk.{}.attn_q",
    .wk = "blk.{}.attn_k",
    .wv = "blk.{}.attn_v",
    .wo = "blk.{}.attn_output",
    .q_norm = "blk.{}.attn_q_norm",
    .k_norm = "blk.{}.attn_k_norm",
    .gate_q = "blk.{}.attn_q_int",
    .gate_k = "blk.{}.attn_k_int",
    .gate_bias = "blk.{}.attn_int_bias",
    .mlp_norm = "blk.{}.ffn_norm",
    .gate = "blk.{}.ffn_gate",
    .up = "blk.{}.ffn_up",
    .down = "blk.{}.ffn_down",
};

}  // namespace pith::inline nn
