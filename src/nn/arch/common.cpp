// SPDX-License-Identifier: MIT
#include "nn/arch/common.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::inline nn {

namespace {

constexpr std::pair<std::string_view, Activation> activations[] = {
    {"silu", Activation::silu},
    {"swish", Activation::silu},
    {"gelu", Activation::gelu},
    {"gelu_new", Activation::gelu_tanh},
    {"gelu_pytorch_tanh", Activation::gelu_tanh},
};

std::string_view name(Activation activation) {
  return std::ranges::find(activations, activation, [](const auto& entry) { return entry.second; })->first;
}

void check_even(const Config& c, std::string_view where) {
  if (c.head_dim % 2 != 0)
    fail(ErrorCode::model, where, "an even head_dim, for rotary position embedding", std::to_string(c.head_dim));
}

/// Llama 3.1's scaling: long waves are stretched by `factor`, short ones kept, those between interpolated by how many
/// of them fit the original context.
std::vector<float> llama3_divisors(const Keys& keys, int head_dim, double theta) {
  const double factor = keys.positive("factor");
  const double low = keys.positive("low_freq_factor"), high = keys.positive("high_freq_factor");
  const double original = keys.count("original_max_position_embeddings", most_positions);
  if (!(high > low)) keys.refuse("high_freq_factor", "more than low_freq_factor");

  std::vector<float> out;
  for (int i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(theta, -2.0 * i / head_dim);
    const double waves = original * frequency / (2.0 * std::numbers::pi);  // in the original context
    const double kept = std::clamp((waves - low) / (high - low), 0.0, 1.0);
    out.push_back(static_cast<float>(1.0 / ((1.0 - kept) / factor + kept)));
  }
  return out;
}

bool alike(const std::vector<float>& values) {
  return std::ranges::adjacent_find(values, std::not_equal_to<>()) == values.end();
}

}  // namespace

void read_sizes(const Keys& keys, const Defaults& defaults, const LayerPlan& plan, Config& c) {
  c.d_model = keys.count("hidden_size", most_features);
  c.layers.assign(static_cast<std::size_t>(keys.count("num_hidden_layers", most_layers)), plan);
  c.n_heads = keys.count("num_attention_heads", most_heads);
  c.n_kv_heads = keys.count_or("num_key_value_heads", most_heads, c.n_heads);
  if (keys.find("head_dim") != nullptr) {
    c.head_dim = keys.count("head_dim", most_features);
  } else {
    c.head_dim = defaults.head_dim > 0 ? defaults.head_dim : divided_head_dim(c, keys.where("hidden_size"));
  }
  check_heads(c, keys.where("num_attention_heads, num_key_value_heads, head_dim"));
  c.d_ff = keys.count("intermediate_size", most_features);
  c.context = keys.count_or("max_position_embeddings", most_positions, defaults.context);
  c.norm_eps = static_cast<float>(keys.positive_or("rms_norm_eps", 1e-6));
  c.final_norm = plan.norm;
  c.tied_head = keys.flag("tie_word_embeddings", false);
}

Activation read_activation(const Keys& keys, std::string_view key, std::string_view fallback) {
  const auto found = keys.text_or(key, fallback);
  std::string expected;
  for (const auto& [text, activation] : activations) {
    if (text == found) return activation;
    expected.append(expected.empty() ? "one of " : ", ").append(text);
  }
  unsupported(keys.where(key), expected, in_quotes(found));
}

void read_rope(const Keys& keys, Config& c) {
  // Newer files keep all of it, theta too, in "rope_parameters"; older ones only the scaling, in "rope_scaling".
  const char* name = keys.find("rope_parameters") != nullptr ? "rope_parameters" : "rope_scaling";
  const auto none = nlohmann::json::object();
  const nlohmann::json* object = keys.find(name);
  const Keys scaling(object == nullptr ? none : *object, keys.where(name));

  check_even(c, keys.where("head_dim"));
  for (const char* layers : {"full_attention", "sliding_attention"})
    if (scaling.find(layers) != nullptr)
      unsupported(scaling.where(layers), "one RoPE for all layers", "one per type of layer");
  for (const Keys* place : {&keys, &scaling})
    if (place->number_or("partial_rotary_factor", 1.0) != 1.0)
      unsupported(place->where("partial_rotary_factor"), "1", printable(place->find("partial_rotary_factor")->dump()));

  const double theta = scaling.positive_or("rope_theta", keys.positive_or("rope_theta", 10000.0));
  RopeConfig rope{.theta = static_cast<float>(theta)};
  const char* key = scaling.find("rope_type") != nullptr ? "rope_type" : "type";
  const auto type = scaling.text_or(key, "default");
  if (type == "linear") {
    rope.divisors.assign(static_cast<std::size_t>(c.head_dim / 2), static_cast<float>(scaling.positive("factor")));
  } else if (type == "llama3") {
    rope.divisors = llama3_divisors(scaling, c.head_dim, theta);
  } else if (type != "default") {
    unsupported(scaling.where(key), "default, linear or llama3", in_quotes(type));
  }
  c.ropes = {std::move(rope)};
}

int read_window(const Keys& keys) {
  return keys.is_null("sliding_window") ? 0 : keys.count_or("sliding_window", most_positions, 4096);
}

void read_layer_types(const Keys& keys, int window, Config& c) {
  const nlohmann::json* types = keys.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array() || types->size() != c.layers.size())
    keys.refuse("layer_types", "a list of " + std::to_string(c.layers.size()) + " types, one for each layer");
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    const nlohmann::json& type = (*types)[i];
    c.layers[i].window = 0;
    if (type == "sliding_attention") {
      if (window == 0) keys.refuse("sliding_window", "the window of the layers that slide by layer_types");
      c.layers[i].window = window;
    } else if (type != "full_attention") {
      unsupported(keys.where("layer_types"), "full_attention or sliding_attention", printable(type.dump()));
    }
  }
}

int divided_head_dim(const Config& c, std::string_view where) {
  if (c.d_model % c.n_heads != 0)
    fail(ErrorCode::model, where, "an embedding size that is a multiple of its " + std::to_string(c.n_heads) + " heads",
         std::to_string(c.d_model));
  return c.d_model / c.n_heads;
}

void check_heads(const Config& c, std::string_view where) {
  const auto heads = std::to_string(c.n_heads);
  if (c.n_heads % c.n_kv_heads != 0)
    fail(ErrorCode::model, where, "key-value heads that divide the " + heads + " heads", std::to_string(c.n_kv_heads));
  if (std::int64_t{c.n_heads} * c.head_dim > most_features)
    fail(ErrorCode::model, where, "head_dim that fits " + heads + " heads", std::to_string(c.head_dim));
}

void read_gguf_sizes(const GgufKeys& keys, std::string_view epsilon, const LayerPlan& plan, Config& c) {
  if (keys.nonzero("expert_count"))
    unsupported(keys.where("expert_count"), "a model without experts", "a mixture of them");
  c.context = keys.count("context_length", most_positions);
  c.d_model = keys.count("embedding_length", most_features);
  c.layers.assign(static_cast<std::size_t>(keys.count("block_count", most_layers)), plan);
  c.d_ff = keys.count("feed_forward_length", most_features);
  c.n_heads = keys.count("attention.head_count", most_heads);
  c.n_kv_heads = keys.count_or("attention.head_count_kv", most_heads, c.n_heads);
  c.head_dim = keys.has("attention.key_length") ? keys.count("attention.key_length", most_features)
                                                : divided_head_dim(c, keys.where("embedding_length"));
  const int value_dim = keys.count_or("attention.value_length", most_features, c.head_dim);
  if (value_dim != c.head_dim)
    unsupported(keys.where("attention.value_length"), "the key length " + std::to_string(c.head_dim),
                std::to_string(value_dim));
  check_heads(c, keys.where("attention.head_count"));
  c.norm_eps = keys.positive(epsilon);
  c.final_norm = plan.norm;
  c.tied_head = !keys.has_tensor(Role::head, ".weight");
}

void write_gguf_sizes(const Config& c, std::string_view epsilon, GgufKeysOut& out) {
  out.add("vocab_size", c.vocab_size);
  out.add("context_length", c.context);
  out.add("embedding_length", c.d_model);
  out.add("block_count", c.n_layers());
  out.add("feed_forward_length", c.d_ff);
  out.add("attention.head_count", c.n_heads);
  out.add("attention.head_count_kv", c.n_kv_heads);
  out.add("attention.key_length", c.head_dim);
  out.add("attention.value_length", c.head_dim);
  out.add(epsilon, c.norm_eps);
}

void read_gguf_rope(const GgufKeys& keys, Config& c) {
  check_even(c, keys.where("attention.key_length"));
  const int rotated = keys.count_or("rope.dimension_count", most_features, c.head_dim);
  if (rotated != c.head_dim)
    unsupported(keys.where("rope.dimension_count"), std::to_string(c.head_dim) + ", all of a head",
                std::to_string(rotated));
  RopeConfig rope{.theta = keys.positive_or("rope.freq_base", 10000.0f)};

  // A factor without a type is linear; before there were types it had another name.
  const char* key = keys.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const auto type = keys.text_or("rope.scaling.type", keys.has(key) ? "linear" : "none");
  if (type != "none" && type != "linear")
    unsupported(keys.where("rope.scaling.type"), "none or linear", in_quotes(type));
  if (type == "linear" && keys.has(key))
    rope.divisors.assign(static_cast<std::size_t>(c.head_dim / 2), keys.positive(key));
  c.ropes = {std::move(rope)};
}

void write_gguf_rope(const Config& c, GgufKeysOut& out) {
  const RopeConfig& rope = c.ropes.front();
  out.add("rope.dimension_count", c.head_dim);
  out.add("rope.freq_base", rope.theta);
  if (rope.divisors.empty() || !alike(rope.divisors)) return;
  out.add("rope.scaling.type", "linear");
  out.add("rope.scaling.factor", rope.divisors.front());
}

std::vector<float> gguf_divisors(const Config& c) {
  return c.ropes.empty() || alike(c.ropes.front().divisors) ? std::vector<float>() : c.ropes.front().divisors;
}

LayerPlan with_gguf_biases(const GgufKeys& keys, LayerPlan plan) {
  plan.qkv_bias = keys.has_tensor(Role::wq, ".bias");
  plan.o_bias = keys.has_tensor(Role::wo, ".bias");
  plan.mlp_bias = keys.has_tensor(Role::mlp_up, ".bias");
  return plan;
}

LayerPlan with_biases_of(const Config& c, LayerPlan plan) {
  const LayerPlan& first = c.layers.front();
  plan.qkv_bias = first.qkv_bias;
  plan.o_bias = first.o_bias;
  plan.mlp_bias = first.mlp_bias;
  return plan;
}

void require_plan(const Config& c, const LayerPlan& plan, const GgufKeysOut& out) {
  const auto require = [&](bool same, std::string_view what) {
    if (!same) out.refuse(what, "what its architecture has in all layers", "another");
  };
  // 1 + weight is written out.
  const auto written = [](Norm norm) { return norm == Norm::rms_plus_one ? Norm::rms : norm; };
  for (const LayerPlan& layer : c.layers) {
    if (layer.activation != plan.activation) out.refuse("activation", name(plan.activation), name(layer.activation));
    require(written(layer.norm) == plan.norm, "norm");
    require(layer.pre_norms == plan.pre_norms, "norms before attention and MLP");
    require(layer.post_norms == plan.post_norms, "norms after attention and MLP");
    require(layer.qk_norm == plan.qk_norm, "norm of queries and keys");
    require(layer.qkv_bias == plan.qkv_bias && layer.o_bias == plan.o_bias, "biases of attention");
    require(layer.mlp_bias == plan.mlp_bias, "biases of the MLP");
    require(layer.mlp == plan.mlp, "MLP");
    require(layer.rope == plan.rope, "RoPE");
    require(layer.query_scale == plan.query_scale, "scale of queries");
  }
  require(written(c.final_norm) == plan.norm, "norm after the last layer");
  require(c.learned_positions == (plan.rope < 0), "learned positions");
  require(c.ropes.size() == (plan.rope < 0 ? 0 : 1), "number of RoPEs");
  require(c.embedding_scale == 1, "scale of the embedding");
  require(c.residual_scale == 1, "scale of the residual");
  require(c.logit_scale == 1 && c.logit_cap == 0, "scale of the logits");
}

int common_window(const Config& c, const GgufKeysOut& out) {
  // One as long as the context hides nothing.
  const auto window = [&](const LayerPlan& layer) { return layer.window < c.context ? layer.window : 0; };
  const int first = window(c.layers.front());
  for (const LayerPlan& layer : c.layers)
    if (window(layer) != first) out.refuse("sliding window", "the same sliding window in all layers", "different ones");
  return first;
}

}  // namespace pith::inline nn
