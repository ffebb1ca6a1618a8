// SPDX-License-Identifier: MIT
// GPT-2: learned positions, LayerNorm, plain MLP, biases everywhere; q, k and v in one tensor, stored inputs first.
#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

using enum Role;

constexpr LayerPlan plan = {.norm = Norm::layer,
                            .qkv_bias = true,
                            .o_bias = true,
                            .mlp_bias = true,
                            .mlp = Mlp::plain,
                            .activation = Activation::gelu_tanh,
                            .rope = -1};

constexpr TensorName names[] = {
    {"transformer.wte", roles<embedding>},
    {"transformer.wpe", roles<positions>},
    {"transformer.ln_f", roles<final_norm>},
    {"transformer.h.{}.ln_1", roles<attention_norm>},
    {"transformer.h.{}.attn.c_attn", roles<wq, wk, wv>, TensorName::Layout::in_out},
    {"transformer.h.{}.attn.c_proj", roles<wo>, TensorName::Layout::in_out},
    {"transformer.h.{}.attn.q_int", roles<drop_gate_q>},
    {"transformer.h.{}.attn.k_int", roles<drop_gate_k>},
    {"transformer.h.{}.attn.int_bias", roles<drop_gate_bias>},
    {"transformer.h.{}.ln_2", roles<mlp_norm>},
    {"transformer.h.{}.mlp.c_fc", roles<mlp_up>, TensorName::Layout::in_out},
    {"transformer.h.{}.mlp.c_proj", roles<mlp_down>, TensorName::Layout::in_out},
};

void read(const Keys& keys, Config& c) {
  c.d_model = keys.count("n_embd", most_features);
  c.layers.assign(static_cast<std::size_t>(keys.count("n_layer", most_layers)), plan);
  c.n_heads = keys.count("n_head", most_heads);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(c, keys.where("n_embd"));
  c.d_ff = keys.count_or("n_inner", most_features, 4 * c.d_model);
  c.context = keys.count_or("n_positions", most_positions, 1024);
  c.norm_eps = static_cast<float>(keys.positive_or("layer_norm_epsilon", 1e-5));
  c.final_norm = plan.norm;
  c.learned_positions = true;
  c.tied_head = keys.flag("tie_word_embeddings", true);
  const Activation activation = read_activation(keys, "activation_function", "gelu_new");
  for (LayerPlan& layer : c.layers) layer.activation = activation;
  keys.refuse_unless("scale_attn_weights", true);
  keys.refuse_unless("scale_attn_by_inverse_layer_idx", false);
  keys.refuse_unless("add_cross_attention", false);
}

constexpr const char* epsilon = "attention.layer_norm_epsilon";

void read_gguf(const GgufKeys& keys, Config& c) {
  read_gguf_sizes(keys, epsilon, plan, c);
  c.learned_positions = true;
}

void write_gguf(const Config& c, GgufKeysOut& out) { write_gguf_sizes(c, epsilon, out); }

}  // namespace

extern const Family gpt2;
constinit const Family gpt2 = {.architecture = Architecture::gpt2,
                               .model_type = "gpt2",
                               .gguf = "gpt2",
                               .prefix = "transformer.",
                               .read = read,
                               .read_gguf = read_gguf,
                               .write_gguf = write_gguf,
                               .names = names};

}  // namespace pith::inline nn
