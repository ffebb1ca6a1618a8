// SPDX-License-Identifier: MIT
// Llama 1 to 3, and Mistral and Mixtral, which ggml calls Llamas: rotary positions, RMSNorm, gated MLP or several of
// them.
#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

void read_llama(const Keys& keys, Config& c) {
  read_sizes(keys, {.context = 2048}, read_llama_plan(keys), c);
  read_rope(keys, c);
  read_layer_types(keys, 0, c);
}

void read_mistral(const Keys& keys, Config& c) {
  const int window = read_window(keys);
  read_sizes(keys, {.context = 32768}, {.activation = read_activation(keys, "hidden_act", "silu"), .window = window},
             c);
  read_rope(keys, c);
  read_layer_types(keys, window, c);
}

void read_mixtral(const Keys& keys, Config& c) {
  const Experts experts = read_experts(keys, {.count = 8, .chosen = 2});
  const int window = keys.count_or("sliding_window", most_positions, 0);
  read_sizes(keys, {.context = 131072, .n_kv_heads = 8, .norm_eps = 1e-5},
             {.activation = read_activation(keys, "hidden_act", "silu"), .window = window, .experts = experts}, c);
  read_rope(keys, c, Rotary::whole, 1e6);
  read_layer_types(keys, window, c);
}

constexpr TensorName mixtral_names[] = {
    {"model.layers.{}.block_sparse_moe.gate", roles<Role::router>},
    {"model.layers.{}.block_sparse_moe.experts.{}.w1", roles<Role::expert_gate>},
    {"model.layers.{}.block_sparse_moe.experts.{}.w3", roles<Role::expert_up>},
    {"model.layers.{}.block_sparse_moe.experts.{}.w2", roles<Role::expert_down>},
};

void read_gguf(const GgufKeys& keys, Config& c) {
  LayerPlan plan = with_gguf_biases(keys, {});
  if (keys.nonzero(sliding_window)) plan.window = keys.count(sliding_window, most_positions);
  read_gguf_sizes(keys, rms_epsilon, plan, c);
  read_gguf_rope(keys, c);
}

void write_gguf(const Config& c, GgufKeysOut& out) {
  write_gguf_usual(c, out);
  if (const int window = c.layers.front().window; window > 0) out.add(sliding_window, window);
}

}  // namespace

extern const Family llama, mistral, mixtral;
constinit const Family llama = {.architecture = Architecture::llama,
                                .model_type = "llama",
                                .gguf = "llama",
                                .prefix = "model.",
                                .read = read_llama,
                                .read_gguf = read_gguf,
                                .write_gguf = write_gguf,
                                .gguf_pairs = RopePairs::adjacent};
constinit const Family mistral = {.architecture = Architecture::mistral,
                                  .model_type = "mistral",
                                  .gguf = "llama",
                                  .prefix = "model.",
                                  .read = read_mistral,
                                  .read_gguf = read_gguf,
                                  .write_gguf = write_gguf,
                                  .gguf_pairs = RopePairs::adjacent};
constinit const Family mixtral = {.architecture = Architecture::mixtral,
                                  .model_type = "mixtral",
                                  .gguf = "llama",
                                  .prefix = "model.",
                                  .read = read_mixtral,
                                  .read_gguf = read_gguf,
                                  .write_gguf = write_gguf,
                                  .gguf_pairs = RopePairs::adjacent,
                                  .names = mixtral_names};

}  // namespace pith::inline nn
