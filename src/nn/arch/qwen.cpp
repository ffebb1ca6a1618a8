// SPDX-License-Identifier: MIT
// Qwen 2 and 2.5: Llama's layers with biases on q, k and v. Qwen 3: none, but norms of queries and keys, head by head,
// and a variant with experts in most layers.
#include <algorithm>

#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

void read_rest(const Keys& keys, Config& c) {
  read_rope(keys, c);
  // The files name a window even where it is not in use.
  const int window = keys.flag("use_sliding_window", false) ? read_window(keys) : 0;
  const int first = window > 0 ? keys.count_or("max_window_layers", most_positions, 28, 0) : c.n_layers();
  for (int i = first; i < c.n_layers(); ++i) c.layers[static_cast<std::size_t>(i)].window = window;
  read_layer_types(keys, window, c);
}

void read_qwen2(const Keys& keys, Config& c) {
  read_sizes(keys, {.context = 32768}, {.qkv_bias = true, .activation = read_activation(keys, "hidden_act", "silu")},
             c);
  read_rest(keys, c);
}

void read_qwen3(const Keys& keys, Config& c) {
  const bool bias = keys.flag("attention_bias", false);
  read_sizes(keys, {.context = 32768, .head_dim = 128},
             {.qk_norm = QkNorm::head,
              .qkv_bias = bias,
              .o_bias = bias,
              .activation = read_activation(keys, "hidden_act", "silu")},
             c);
  read_rest(keys, c);
}

void read_qwen3_moe(const Keys& keys, Config& c) {
  read_qwen3(keys, c);
  const Experts experts =
      read_experts(keys, {.count = 128, .chosen = 8, .renormalised = keys.flag("norm_topk_prob", false)});
  const int width = keys.count_or("moe_intermediate_size", most_features, 768);
  const int step = keys.count_or("decoder_sparse_step", most_layers, 1);
  const auto plain = keys.tokens("mlp_only_layers");
  for (const std::int64_t layer : plain)
    if (layer < 0 || layer >= c.n_layers())
      keys.refuse("mlp_only_layers", "layers below " + std::to_string(c.n_layers()));
  for (int i = 0; i < c.n_layers(); ++i) {
    if ((i + 1) % step != 0 || std::ranges::find(plain, i) != plain.end()) continue;
    LayerPlan& plan = c.layers[static_cast<std::size_t>(i)];
    plan.experts = experts;
    plan.d_ff = width != c.d_ff ? width : 0;
  }
}

template <QkNorm qk_norm>
void read_gguf(const GgufKeys& keys, Config& c) {
  read_gguf_sizes(keys, rms_epsilon, with_gguf_biases(keys, {.qk_norm = qk_norm}), c);
  read_gguf_rope(keys, c);
  // There is a key, but none that says which layers slide.
  if (const int window = keys.nonzero(sliding_window) ? keys.count(sliding_window, most_positions) : c.context;
      window < c.context)
    unsupported(keys.where(sliding_window), "no sliding window", std::to_string(window));
}

}  // namespace

extern const Family qwen2, qwen3, qwen3_moe;
constinit const Family qwen2 = {.architecture = Architecture::qwen2,
                                .model_type = "qwen2",
                                .gguf = "qwen2",
                                .prefix = "model.",
                                .read = read_qwen2,
                                .read_gguf = read_gguf<QkNorm::none>,
                                .write_gguf = write_gguf_usual};
constinit const Family qwen3 = {.architecture = Architecture::qwen3,
                                .model_type = "qwen3",
                                .gguf = "qwen3",
                                .prefix = "model.",
                                .read = read_qwen3,
                                .read_gguf = read_gguf<QkNorm::head>,
                                .write_gguf = write_gguf_usual};
constinit const Family qwen3_moe = {.architecture = Architecture::qwen3_moe,
                                    .model_type = "qwen3_moe",
                                    .gguf = "qwen3moe",
                                    .prefix = "model.",
                                    .read = read_qwen3_moe,
                                    .read_gguf = read_gguf<QkNorm::head>,
                                    .write_gguf = write_gguf_usual};

}  // namespace pith::inline nn
