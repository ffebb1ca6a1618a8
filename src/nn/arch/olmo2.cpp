// SPDX-License-Identifier: MIT
// OLMo 2: Llama's layers with norms after each half and none before, and norms of all queries and of all keys together.
#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

using enum Role;

constexpr LayerPlan plan = {.pre_norms = false, .post_norms = true, .qk_norm = QkNorm::all};

constexpr TensorName names[] = {
    {"model.layers.{}.post_attention_layernorm", roles<post_attention_norm>},
};

void read(const Keys& keys, Config& c) {
  LayerPlan with_biases = plan;
  with_biases.qkv_bias = with_biases.o_bias = keys.flag("attention_bias", false);
  with_biases.activation = read_activation(keys, "hidden_act", "silu");
  read_sizes(keys, {.context = 2048, .norm_eps = 1e-5}, with_biases, c);
  read_rope(keys, c);
}

void read_gguf(const GgufKeys& keys, Config& c) {
  read_gguf_sizes(keys, rms_epsilon, with_gguf_biases(keys, plan), c);
  read_gguf_rope(keys, c);
  if (keys.nonzero(sliding_window))
    unsupported(keys.where(sliding_window), "no sliding window",
                std::to_string(keys.count(sliding_window, most_positions)));
}

}  // namespace

extern const Family olmo2;
constinit const Family olmo2 = {.architecture = Architecture::olmo2,
                                .model_type = "olmo2",
                                .gguf = "olmo2",
                                .prefix = "model.",
                                .read = read,
                                .read_gguf = read_gguf,
                                .write_gguf = write_gguf_usual,
                                .names = names};

}  // namespace pith::inline nn
