// SPDX-License-Identifier: MIT
// Qwen 2 and 2.5: Llama's layers with biases on q, k and v. Qwen 3: none, but norms of queries and keys, head by head.
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

constexpr const char* epsilon = "attention.layer_norm_rms_epsilon";

template <QkNorm qk_norm>
void read_gguf(const GgufKeys& keys, Config& c) {
  read_gguf_sizes(keys, epsilon, with_gguf_biases(keys, {.qk_norm = qk_norm}), c);
  read_gguf_rope(keys, c);
  // There is a key, but none that says which layers slide.
  constexpr const char* key = "attention.sliding_window";
  if (const int window = keys.nonzero(key) ? keys.count(key, most_positions) : c.context; window < c.context)
    unsupported(keys.where(key), "no sliding window", std::to_string(window));
}

template <QkNorm qk_norm>
void write_gguf(const Config& c, GgufKeysOut& out) {
  require_plan(c, with_biases_of(c, {.qk_norm = qk_norm}), out);
  for (const LayerPlan& layer : c.layers)
    if (layer.window > 0 && layer.window < c.context)
      out.refuse("sliding window", "no sliding window", "one of " + std::to_string(layer.window));
  write_gguf_sizes(c, epsilon, out);
  write_gguf_rope(c, out);
}

}  // namespace

extern const Family qwen2, qwen3;
constinit const Family qwen2 = {.architecture = Architecture::qwen2,
                                .model_type = "qwen2",
                                .gguf = "qwen2",
                                .prefix = "model.",
                                .read = read_qwen2,
                                .read_gguf = read_gguf<QkNorm::none>,
                                .write_gguf = write_gguf<QkNorm::none>};
constinit const Family qwen3 = {.architecture = Architecture::qwen3,
                                .model_type = "qwen3",
                                .gguf = "qwen3",
                                .prefix = "model.",
                                .read = read_qwen3,
                                .read_gguf = read_gguf<QkNorm::head>,
                                .write_gguf = write_gguf<QkNorm::head>};

}  // namespace pith::inline nn
