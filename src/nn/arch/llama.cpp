// SPDX-License-Identifier: MIT
// Llama 1 to 3, and Mistral, which ggml calls a Llama: rotary positions, RMSNorm, gated MLP.
#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

void read_llama(const Keys& keys, Config& c) {
  const bool bias = keys.flag("attention_bias", false);
  read_sizes(keys, {.context = 2048},
             {.qkv_bias = bias,
              .o_bias = bias,
              .mlp_bias = keys.flag("mlp_bias", false),
              .activation = read_activation(keys, "hidden_act", "silu")},
             c);
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

constexpr const char* epsilon = "attention.layer_norm_rms_epsilon";
constexpr const char* sliding_window = "attention.sliding_window";

void read_gguf(const GgufKeys& keys, Config& c) {
  LayerPlan plan = with_gguf_biases(keys, {});
  if (keys.nonzero(sliding_window)) plan.window = keys.count(sliding_window, most_positions);
  read_gguf_sizes(keys, epsilon, plan, c);
  read_gguf_rope(keys, c);
}

void write_gguf(const Config& c, GgufKeysOut& out) {
  require_plan(c, with_biases_of(c, {}), out);
  write_gguf_sizes(c, epsilon, out);
  write_gguf_rope(c, out);
  if (const int window = common_window(c, out); window > 0) out.add(sliding_window, window);
}

}  // namespace

extern const Family llama, mistral;
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

}  // namespace pith::inline nn
