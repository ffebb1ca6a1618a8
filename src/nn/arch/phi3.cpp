// SPDX-License-Identifier: MIT
// Phi 3, 3.5 and Phi 4 mini: Llama's layers with q, k and v in one tensor and both halves of the MLP's input in
// another; LongRoPE, and in the latest only a part of each head turns.
#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

using enum Role;

constexpr TensorName names[] = {
    {"model.layers.{}.self_attn.qkv_proj", roles<wq, wk, wv>},
    {"model.layers.{}.mlp.gate_up_proj", roles<mlp_gate, mlp_up>},
};

constexpr TensorName own_gguf_names[] = {
    {"blk.{}.ffn_up", roles<mlp_gate, mlp_up>},
};

void read(const Keys& keys, Config& c) {
  const int window = keys.count_or("sliding_window", most_positions, 0);
  read_sizes(keys, {.context = 4096, .norm_eps = 1e-5},
             {.activation = read_activation(keys, "hidden_act", "silu"), .window = window}, c);
  read_rope(keys, c, Rotary::part);
  read_layer_types(keys, window, c);
}

void read_gguf(const GgufKeys& keys, Config& c) {
  LayerPlan plan;
  if (keys.nonzero(sliding_window)) plan.window = keys.count(sliding_window, most_positions);
  read_gguf_sizes(keys, rms_epsilon, plan, c);
  read_gguf_rope(keys, c, Rotary::part);
}

void write_gguf(const Config& c, GgufKeysOut& out) {
  write_gguf_usual(c, out);
  out.add(sliding_window, c.layers.front().window);
}

}  // namespace

extern const Family phi3;
constinit const Family phi3 = {.architecture = Architecture::phi3,
                               .model_type = "phi3",
                               .gguf = "phi3",
                               .prefix = "model.",
                               .read = read,
                               .read_gguf = read_gguf,
                               .write_gguf = write_gguf,
                               .names = names,
                               .own_gguf_names = own_gguf_names};

}  // namespace pith::inline nn
