// SPDX-License-Identifier: MIT
// Gemma 2 and 3: a scaled embedding, norms that multiply by 1 + weight before and after each half of a layer, gated
// GELU, layers with a sliding window between some that see all. Gemma 2 caps scores and logits; Gemma 3 normalises
// queries and keys and turns them by another RoPE where a window slides.
#include <cmath>

#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

using enum Role;

constexpr TensorName names[] = {
    {"model.layers.{}.post_attention_layernorm", roles<post_attention_norm>},
    {"model.layers.{}.pre_feedforward_layernorm", roles<mlp_norm>},
};

constexpr int vocabulary = 256000, vocabulary3 = 262208;

constexpr LayerPlan plan = {.norm = Norm::rms_plus_one, .post_norms = true, .activation = Activation::gelu_tanh};
constexpr LayerPlan plan3 = [] {
  LayerPlan three = plan;
  three.qk_norm = QkNorm::head;
  return three;
}();

/// GGUF files hold 1 + weight.
constexpr LayerPlan in_gguf(LayerPlan usual) {
  usual.norm = Norm::rms;
  return usual;
}

float embedding_scale(const Config& c) { return std::sqrt(static_cast<float>(c.d_model)); }

/// Every layer but the last of a period slides, where no list says which do.
void read_windows(const Keys& keys, int period, int fallback, Config& c) {
  const int window = keys.is_null("sliding_window") ? 0 : keys.count_or("sliding_window", most_positions, fallback);
  for (int i = 0; i < c.n_layers(); ++i)
    c.layers[static_cast<std::size_t>(i)].window = (i + 1) % period != 0 ? window : 0;
  read_layer_types(keys, window, c);
}

void read_common(const Keys& keys, const LayerPlan& usual, const Defaults& defaults, Config& c) {
  LayerPlan layer = usual;
  layer.qkv_bias = layer.o_bias = keys.flag("attention_bias", false);
  layer.activation = read_activation(
      keys, keys.find("hidden_activation") != nullptr ? "hidden_activation" : "hidden_act", "gelu_pytorch_tanh");
  layer.query_scale = static_cast<float>(1 / std::sqrt(keys.positive_or("query_pre_attn_scalar", 256)));
  read_sizes(keys, defaults, layer, c);
  c.embedding_scale = embedding_scale(c);
  keys.refuse_unless("use_bidirectional_attention", false);
}

/// A cap, where null is none and a key that is absent means `fallback`.
float read_cap(const Keys& keys, std::string_view key, double fallback) {
  if (keys.is_null(key) || keys.number_or(key, fallback) == 0) return 0;
  return static_cast<float>(keys.positive_or(key, fallback));
}

void read_gemma2(const Keys& keys, Config& c) {
  read_common(keys, plan,
              {.context = 8192, .n_heads = 8, .n_kv_heads = 4, .head_dim = 256, .norm_eps = 1e-6, .tied_head = true},
              c);
  const float cap = read_cap(keys, "attn_logit_softcapping", 50);
  for (LayerPlan& layer : c.layers) layer.score_cap = cap;
  c.logit_cap = read_cap(keys, "final_logit_softcapping", 30);
  read_rope(keys, c);
  read_windows(keys, 2, 4096, c);
}

void read_gemma3(const Keys& keys, Config& c) {
  read_common(keys, plan3,
              {.context = 131072, .n_heads = 8, .n_kv_heads = 4, .head_dim = 256, .norm_eps = 1e-6, .tied_head = true},
              c);
  c.logit_cap = read_cap(keys, "final_logit_softcapping", 0);
  read_windows(keys, keys.count_or("sliding_window_pattern", most_layers, 6), 4096, c);

  // Newer files have an object for each type of layers; in older ones the scaling is that of the layers that see all.
  const auto none = nlohmann::json::object();
  const char* name = keys.find("rope_parameters") != nullptr ? "rope_parameters" : "rope_scaling";
  const nlohmann::json* found = keys.find(name);
  const Keys both(found == nullptr ? none : *found, keys.where(name));
  const nlohmann::json* all = both.find("full_attention");
  const nlohmann::json* sliding = both.find("sliding_attention");
  const bool apart = all != nullptr || sliding != nullptr;
  const Keys global(apart              ? (all == nullptr ? none : *all)
                    : found == nullptr ? none
                                       : *found,
                    apart ? both.where("full_attention") : keys.where(name));
  const Keys local(sliding == nullptr ? none : *sliding, both.where("sliding_attention"));
  c.ropes = {read_rope(keys, global, keys.positive_or("rope_theta", 1e6), c),
             read_rope(keys, local, keys.positive_or("rope_local_base_freq", 1e4), c)};
  for (LayerPlan& layer : c.layers) layer.rope = layer.window > 0 ? 1 : 0;
}

/// The largest models of both are scaled by d_model / n_heads, which no key of older files says.
float usual_query_scale(const Config& c, int largest) {
  return 1 / std::sqrt(static_cast<float>(c.n_layers() == largest ? c.d_model / c.n_heads : c.head_dim));
}

void read_gguf_common(const GgufKeys& keys, const LayerPlan& usual, int largest, Config& c) {
  read_gguf_sizes(keys, rms_epsilon, with_gguf_biases(keys, usual), c);
  c.embedding_scale = embedding_scale(c);
  const float scale = keys.positive_or("attention.scale", usual_query_scale(c, largest));
  for (LayerPlan& layer : c.layers) layer.query_scale = scale;
  if (keys.has("final_logit_softcapping")) c.logit_cap = keys.positive("final_logit_softcapping");
  read_gguf_rope(keys, c);
}

void write_gguf_common(const Config& c, int largest, GgufKeysOut& out) {
  write_gguf_sizes(c, rms_epsilon, out);
  const float scale = c.layers.front().query_scale;
  if (scale != 0 && scale != usual_query_scale(c, largest)) out.add("attention.scale", scale);
  if (c.logit_cap != 0) out.add("final_logit_softcapping", c.logit_cap);
  write_gguf_rope(c, out);
}

constexpr int largest2 = 46, period2 = 2;

void read_gguf2(const GgufKeys& keys, Config& c) {
  read_gguf_common(keys, in_gguf(plan), largest2, c);
  if (keys.has("attn_logit_softcapping"))
    for (LayerPlan& layer : c.layers) layer.score_cap = keys.positive("attn_logit_softcapping");
  const bool none = keys.has(sliding_window) && !keys.nonzero(sliding_window);
  read_gguf_windows(keys, none ? 0 : keys.count_or(sliding_window, most_positions, 4096), period2, c);
}

void write_gguf2(const Config& c, GgufKeysOut& out) {
  write_gguf_common(c, largest2, out);
  if (c.layers.front().score_cap != 0) out.add("attn_logit_softcapping", c.layers.front().score_cap);
  out.add(sliding_window, 0);  // unless some do
  write_gguf_windows(c, period2, out);
}

constexpr int largest3 = 62, period3 = 6;

void read_gguf3(const GgufKeys& keys, Config& c) {
  read_gguf_common(keys, in_gguf(plan3), largest3, c);
  read_gguf_windows(keys, keys.nonzero(sliding_window) ? keys.count(sliding_window, most_positions) : 0, period3, c);
  RopeConfig local{.theta = keys.positive_or("rope.freq_base_swa", 10000.0f)};
  local.dim = c.ropes.front().dim;
  c.ropes.push_back(std::move(local));
  for (LayerPlan& layer : c.layers) layer.rope = layer.window > 0 ? 1 : 0;
}

void write_gguf3(const Config& c, GgufKeysOut& out) {
  write_gguf_common(c, largest3, out);
  if (c.ropes.size() > 1) out.add("rope.freq_base_swa", c.ropes[1].theta);
  write_gguf_windows(c, period3, out);
}

}  // namespace

extern const Family gemma2, gemma3;
constinit const Family gemma2 = {.architecture = Architecture::gemma2,
                                 .model_type = "gemma2",
                                 .gguf = "gemma2",
                                 .prefix = "model.",
                                 .vocabulary = vocabulary,
                                 .read = read_gemma2,
                                 .read_gguf = read_gguf2,
                                 .write_gguf = write_gguf2,
                                 .names = names};
constinit const Family gemma3 = {.architecture = Architecture::gemma3,
                                 .model_type = "gemma3_text",
                                 .gguf = "gemma3",
                                 .prefix = "model.",
                                 .vocabulary = vocabulary3,
                                 .read = read_gemma3,
                                 .read_gguf = read_gguf3,
                                 .write_gguf = write_gguf3,
                                 .names = names};

}  // namespace pith::inline nn
