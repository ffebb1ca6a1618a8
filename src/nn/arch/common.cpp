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

}  // namespace

std::string_view name(Activation activation) {
  return std::ranges::find(activations, activation, [](const auto& entry) { return entry.second; })->first;
}

namespace {

/// The context that a scaled RoPE was trained in, which some files keep beside the scaling, and that goes first.
int original_context(const Keys& keys, const Keys& scaling, const Config& c) {
  constexpr const char* key = "original_max_position_embeddings";
  return keys.count_or(key, most_positions, scaling.count_or(key, most_positions, c.context));
}

/// Of a head's numbers, those that turn.
int rotated_dim(const Config& c, int dim, std::string_view where) {
  if (dim < 1 || dim > c.head_dim || dim % 2 != 0)
    fail(ErrorCode::model, where,
         "an even number of a head's " + std::to_string(c.head_dim) + ", for rotary position embedding",
         std::to_string(dim));
  return dim;
}

/// 1 / ((1 - kept) / factor + kept): a frequency between one stretched by `factor` and one that is kept.
float between(double kept, double factor) { return static_cast<float>(1.0 / ((1.0 - kept) / factor + kept)); }

/// Llama 3.1's scaling: long waves are stretched by `factor`, short ones kept, those between interpolated by how many
/// of them fit the original context.
std::vector<float> llama3_divisors(const Keys& keys, int dim, double theta) {
  const double factor = keys.positive("factor");
  const double low = keys.positive("low_freq_factor"), high = keys.positive("high_freq_factor");
  const double original = keys.count("original_max_position_embeddings", most_positions);
  if (!(high > low)) keys.refuse("high_freq_factor", "more than low_freq_factor");

  std::vector<float> out;
  for (int i = 0; i < dim / 2; ++i) {
    const double frequency = std::pow(theta, -2.0 * i / dim);
    const double waves = original * frequency / (2.0 * std::numbers::pi);  // in the original context
    out.push_back(between(std::clamp((waves - low) / (high - low), 0.0, 1.0), factor));
  }
  return out;
}

enum class Bounds { whole, exact };  // of YaRN's ramp: rounded away from it, or as computed

/// YaRN: a ramp over the pairs, from the one that turns beta_fast times in the original context to the one that turns
/// beta_slow times (arXiv 2309.00071, section 3.2, by pair instead of by wavelength as its programs do).
std::vector<float> yarn_divisors(const YarnScaling& yarn, int dim, double theta, Bounds bounds) {
  const auto pair_of = [&](float turns) {
    return dim * std::log(yarn.original_context / (static_cast<double>(turns) * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(theta));
  };
  double low = pair_of(yarn.beta_fast), high = pair_of(yarn.beta_slow);
  if (bounds == Bounds::whole) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dim - 1.0);
  const double width = high == low ? 0.001 : high - low;

  std::vector<float> out;
  for (int i = 0; i < dim / 2; ++i)
    out.push_back(between(1.0 - std::clamp((i - low) / width, 0.0, 1.0), static_cast<double>(yarn.factor)));
  return out;
}

/// YaRN's attention factor, of a factor of at least 1 (section 3.4).
double yarn_magnitude(double factor, double scale = 1) {
  return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1;
}

/// What of it there is after scaling by YaRN, by whatever keys.
void scale_by_yarn(const YarnScaling& yarn, double magnitude, Bounds bounds, const Config& c, RopeConfig& rope,
                   std::string_view where) {
  if (!(rope.theta > 1.0f)) fail(ErrorCode::model, where, "a theta above 1, for YaRN", std::to_string(rope.theta));
  rope.yarn = yarn;
  rope.magnitude = static_cast<float>(magnitude);
  rope.divisors = yarn_divisors(yarn, c.dim_of(rope), static_cast<double>(rope.theta), bounds);
  for (const float divisor : rope.divisors)
    if (!std::isfinite(divisor) || !(divisor > 0.0f))
      fail(ErrorCode::model, where, "numbers that YaRN makes positive divisors of", std::to_string(divisor));
}

void read_yarn(const Keys& keys, const Keys& scaling, const Config& c, RopeConfig& rope) {
  YarnScaling yarn;
  yarn.original_context = original_context(keys, scaling, c);
  const double fallback = static_cast<double>(c.context) / yarn.original_context;
  const double factor = scaling.positive_or("factor", fallback);
  yarn.factor = static_cast<float>(factor);
  yarn.beta_fast = static_cast<float>(scaling.positive_or("beta_fast", 32));
  yarn.beta_slow = static_cast<float>(scaling.positive_or("beta_slow", 1));
  double magnitude = yarn_magnitude(factor);
  if (const double all = scaling.number_or("mscale_all_dim", 0), one = scaling.number_or("mscale", 0); all * one != 0)
    magnitude = yarn_magnitude(factor, one) / yarn_magnitude(factor, all);
  magnitude = scaling.positive_or("attention_factor", magnitude);
  if (!std::isfinite(magnitude) || !(magnitude > 0))
    scaling.refuse("mscale", "one that leaves attention a positive factor");
  const Bounds bounds = scaling.flag("truncate", true) ? Bounds::whole : Bounds::exact;
  scale_by_yarn(yarn, magnitude, bounds, c, rope, scaling.where("factor"));
}

void read_longrope(const Keys& keys, const Keys& scaling, const Config& c, RopeConfig& rope) {
  const auto pairs = static_cast<std::size_t>(c.dim_of(rope) / 2);
  rope.divisors = scaling.positives("short_factor", pairs);
  rope.long_divisors = scaling.positives("long_factor", pairs);
  rope.original_context = original_context(keys, scaling, c);
  const auto original = static_cast<double>(rope.original_context);
  const double factor = scaling.positive_or("factor", c.context / original);
  const double fallback = factor <= 1 || original <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(original));
  rope.magnitude = static_cast<float>(scaling.positive_or("attention_factor", fallback));
}

template <class T>
bool alike(const std::vector<T>& values) {
  return std::ranges::adjacent_find(values, std::not_equal_to<>()) == values.end();
}

}  // namespace

void read_sizes(const Keys& keys, const Defaults& defaults, const LayerPlan& plan, Config& c) {
  const auto count = [&](std::string_view key, std::int64_t most, int fallback) {
    return fallback > 0 ? keys.count_or(key, most, fallback) : keys.count(key, most);
  };
  c.d_model = keys.count("hidden_size", most_features);
  c.layers.assign(static_cast<std::size_t>(keys.count("num_hidden_layers", most_layers)), plan);
  c.n_heads = count("num_attention_heads", most_heads, defaults.n_heads);
  c.n_kv_heads =
      keys.count_or("num_key_value_heads", most_heads, defaults.n_kv_heads > 0 ? defaults.n_kv_heads : c.n_heads);
  if (keys.find("head_dim") != nullptr) {
    c.head_dim = keys.count("head_dim", most_features);
  } else {
    c.head_dim = defaults.head_dim > 0 ? defaults.head_dim : divided_head_dim(c, keys.where("hidden_size"));
  }
  check_heads(c, keys.where("num_attention_heads, num_key_value_heads, head_dim"));
  c.d_ff = keys.count("intermediate_size", most_features);
  c.context = keys.count_or("max_position_embeddings", most_positions, defaults.context);
  c.norm_eps = static_cast<float>(keys.positive_or("rms_norm_eps", defaults.norm_eps));
  c.final_norm = plan.norm;
  c.tied_head = keys.flag("tie_word_embeddings", defaults.tied_head);
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

LayerPlan read_llama_plan(const Keys& keys) {
  const bool bias = keys.flag("attention_bias", false);
  return {.qkv_bias = bias,
          .o_bias = bias,
          .mlp_bias = keys.flag("mlp_bias", false),
          .activation = read_activation(keys, "hidden_act", "silu")};
}

RopeConfig read_rope(const Keys& keys, const Keys& scaling, double theta, const Config& c, Rotary rotary) {
  theta = scaling.positive_or("rope_theta", theta);
  RopeConfig rope{.theta = static_cast<float>(theta)};

  constexpr const char* part = "partial_rotary_factor";
  const Keys& place = scaling.find(part) != nullptr ? scaling : keys;
  const double factor = place.number_or(part, 1.0);
  if (factor != 1.0 && rotary == Rotary::whole)
    unsupported(place.where(part), "1", printable(place.find(part)->dump()));
  if (!(factor > 0.0 && factor <= 1.0)) place.refuse(part, "a number above 0 and up to 1");
  const int dim =
      rotated_dim(c, static_cast<int>(c.head_dim * factor), factor == 1.0 ? keys.where("head_dim") : place.where(part));
  if (dim != c.head_dim) rope.dim = dim;

  const char* key = scaling.find("rope_type") != nullptr ? "rope_type" : "type";
  const auto type = scaling.text_or(key, "default");
  if (type == "linear") {
    rope.divisors.assign(static_cast<std::size_t>(dim / 2), static_cast<float>(scaling.positive("factor")));
  } else if (type == "llama3") {
    rope.divisors = llama3_divisors(scaling, dim, theta);
  } else if (type == "longrope" || type == "su" || scaling.find("long_factor") != nullptr) {  // older Phi 3: "yarn"
    read_longrope(keys, scaling, c, rope);
  } else if (type == "yarn") {
    read_yarn(keys, scaling, c, rope);
  } else if (type != "default") {
    unsupported(scaling.where(key), "default, linear, llama3, yarn or longrope", in_quotes(type));
  }
  return rope;
}

void read_rope(const Keys& keys, Config& c, Rotary rotary, double theta) {
  // Newer files keep all of it, theta too, in "rope_parameters"; older ones only the scaling, in "rope_scaling".
  const char* name = keys.find("rope_parameters") != nullptr ? "rope_parameters" : "rope_scaling";
  const auto none = nlohmann::json::object();
  const nlohmann::json* object = keys.find(name);
  const Keys scaling(object == nullptr ? none : *object, keys.where(name));
  for (const char* layers : {"full_attention", "sliding_attention"})
    if (scaling.find(layers) != nullptr)
      unsupported(scaling.where(layers), "one RoPE for all layers", "one per type of layer");
  c.ropes = {read_rope(keys, scaling, keys.positive_or("rope_theta", theta), c, rotary)};
}

namespace {

void check_experts(const Experts& experts, std::string_view where) {
  if (experts.chosen > experts.count)
    fail(ErrorCode::model, where, "at most the " + std::to_string(experts.count) + " experts there are",
         std::to_string(experts.chosen));
}

}  // namespace

Experts read_experts(const Keys& keys, Experts experts) {
  const char* count = keys.find("num_local_experts") != nullptr ? "num_local_experts" : "num_experts";
  experts.count = keys.count_or(count, most_experts, experts.count);
  experts.chosen = keys.count_or("num_experts_per_tok", most_experts, experts.chosen);
  check_experts(experts, keys.where("num_experts_per_tok"));
  return experts;
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

namespace {

/// What the keys of experts say, for the layers that have a router.
void read_gguf_experts(const GgufKeys& keys, Config& c) {
  if (!keys.nonzero("expert_count")) return;
  Experts experts{.count = keys.count("expert_count", most_experts),
                  .chosen = keys.count("expert_used_count", most_experts),
                  .renormalised = keys.flag_or("expert_weights_norm", true)};
  check_experts(experts, keys.where("expert_used_count"));
  for (const char* key : {"expert_shared_count", "expert_shared_feed_forward_length"})
    if (keys.nonzero(key)) unsupported(keys.where(key), "no experts that all tokens share", "some");
  if (keys.has("expert_group_count") && keys.count("expert_group_count", most_experts) > 1)
    unsupported(keys.where("expert_group_count"), "experts in one group", "in several");
  if (const float scale = keys.positive_or("expert_weights_scale", 1); scale != 1)
    unsupported(keys.where("expert_weights_scale"), "1", std::to_string(scale));
  constexpr int softmax = 1;
  if (keys.nonzero("expert_gating_func") && keys.count("expert_gating_func", most_experts) != softmax)
    unsupported(keys.where("expert_gating_func"), "1, softmax",
                std::to_string(keys.count("expert_gating_func", most_experts)));
  const int width = keys.count_or("expert_feed_forward_length", most_features, c.d_ff);
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    if (!keys.has_tensor(Role::router, ".weight", i)) continue;
    c.layers[i].experts = experts;
    c.layers[i].d_ff = width != c.d_ff ? width : 0;
  }
}

}  // namespace

void read_gguf_sizes(const GgufKeys& keys, std::string_view epsilon, const LayerPlan& plan, Config& c) {
  c.context = keys.count("context_length", most_positions);
  c.d_model = keys.count("embedding_length", most_features);
  c.layers.assign(static_cast<std::size_t>(keys.count("block_count", most_layers)), plan);
  const auto widths = keys.counts("feed_forward_length", most_features, c.layers.size());
  c.d_ff = widths.front();
  for (std::size_t i = 0; i < widths.size(); ++i)
    if (widths[i] != c.d_ff) c.layers[i].d_ff = widths[i];
  read_gguf_experts(keys, c);
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
  std::vector<int> widths;
  for (const LayerPlan& plan : c.layers) widths.push_back(plan.experts.count > 0 ? c.d_ff : c.d_ff_of(plan));
  if (alike(widths)) {
    out.add("feed_forward_length", widths.front());
  } else {
    out.add("feed_forward_length", widths);
  }
  const auto mixture = std::ranges::find_if(c.layers, [](const LayerPlan& plan) { return plan.experts.count > 0; });
  if (mixture != c.layers.end()) {
    out.add("expert_count", mixture->experts.count);
    out.add("expert_used_count", mixture->experts.chosen);
    out.add("expert_feed_forward_length", c.d_ff_of(*mixture));
    if (!mixture->experts.renormalised) out.add("expert_weights_norm", false);
  }
  out.add("attention.head_count", c.n_heads);
  out.add("attention.head_count_kv", c.n_kv_heads);
  out.add("attention.key_length", c.head_dim);
  out.add("attention.value_length", c.head_dim);
  out.add(epsilon, c.norm_eps);
}

void read_gguf_rope(const GgufKeys& keys, Config& c, Rotary rotary) {
  const char* dimension = keys.has("rope.dimension_count") ? "rope.dimension_count" : "attention.key_length";
  const int dim =
      rotated_dim(c, keys.count_or("rope.dimension_count", most_features, c.head_dim), keys.where(dimension));
  if (dim != c.head_dim && rotary == Rotary::whole)
    unsupported(keys.where(dimension), std::to_string(c.head_dim) + ", all of a head", std::to_string(dim));
  RopeConfig rope{.theta = keys.positive_or("rope.freq_base", 10000.0f)};
  if (dim != c.head_dim) rope.dim = dim;

  // A factor without a type is linear; before there were types it had another name.
  const char* key = keys.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const auto type = keys.text_or("rope.scaling.type", keys.has(key) ? "linear" : "none");
  constexpr const char* original = "rope.scaling.original_context_length";
  rope.magnitude = keys.positive_or("rope.scaling.attn_factor", 1);
  if (type == "linear" && keys.has(key)) {
    rope.divisors.assign(static_cast<std::size_t>(dim / 2), keys.positive(key));
  } else if (type == "yarn") {
    YarnScaling yarn;
    yarn.original_context = keys.count_or(original, most_positions, c.context);
    yarn.factor = keys.positive(key);
    yarn.beta_fast = keys.positive_or("rope.scaling.yarn_beta_fast", 32);
    yarn.beta_slow = keys.positive_or("rope.scaling.yarn_beta_slow", 1);
    const auto fallback = static_cast<float>(yarn_magnitude(static_cast<double>(yarn.factor)));
    const float magnitude = keys.positive_or("rope.scaling.yarn_attn_factor", fallback) * rope.magnitude;
    scale_by_yarn(yarn, static_cast<double>(magnitude), Bounds::whole, c, rope, keys.where(key));
  } else if (type != "none" && type != "linear" && type != "longrope") {
    unsupported(keys.where("rope.scaling.type"), "none, linear, yarn or longrope", in_quotes(type));
  }
  // What belongs to tensors, if they come.
  if (keys.has_tensor(rope_long)) rope.original_context = keys.count_or(original, most_positions, c.context);
  c.ropes = {std::move(rope)};
}

void write_gguf_rope(const Config& c, GgufKeysOut& out) {
  if (c.ropes.empty()) return;  // refused when it is read back
  const RopeConfig& rope = c.ropes.front();
  out.add("rope.dimension_count", c.dim_of(rope));
  out.add("rope.freq_base", rope.theta);
  if (rope.yarn) {
    out.add("rope.scaling.type", "yarn");
    out.add("rope.scaling.factor", rope.yarn->factor);
    out.add("rope.scaling.original_context_length", rope.yarn->original_context);
    if (rope.yarn->beta_fast != 32) out.add("rope.scaling.yarn_beta_fast", rope.yarn->beta_fast);
    if (rope.yarn->beta_slow != 1) out.add("rope.scaling.yarn_beta_slow", rope.yarn->beta_slow);
    const auto fallback = static_cast<float>(yarn_magnitude(static_cast<double>(rope.yarn->factor)));
    if (rope.magnitude != fallback) out.add("rope.scaling.yarn_attn_factor", rope.magnitude);
    return;
  }
  if (rope.magnitude != 1) out.add("rope.scaling.attn_factor", rope.magnitude);
  if (!rope.long_divisors.empty()) {
    out.add("rope.scaling.type", "longrope");
    out.add("rope.scaling.original_context_length", rope.original_context);
  } else if (!rope.divisors.empty() && alike(rope.divisors)) {
    out.add("rope.scaling.type", "linear");
    out.add("rope.scaling.factor", rope.divisors.front());
  }
}

void write_gguf_usual(const Config& c, GgufKeysOut& out) {
  write_gguf_sizes(c, rms_epsilon, out);
  write_gguf_rope(c, out);
}

void read_gguf_windows(const GgufKeys& keys, int window, int period, Config& c) {
  if (window == 0) return;
  const auto slides = keys.pattern("attention.sliding_window_pattern", period, c.layers.size());
  for (std::size_t i = 0; i < c.layers.size(); ++i) c.layers[i].window = slides[i] ? window : 0;
}

void write_gguf_windows(const Config& c, int period, GgufKeysOut& out) {
  int window = 0;
  bool usual = true;
  std::vector<bool> slides;
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    window = std::max(window, c.layers[i].window);
    slides.push_back(c.layers[i].window > 0);
    usual = usual && slides.back() == (period == 0 || (i + 1) % static_cast<std::size_t>(period) != 0);
  }
  if (window == 0) return;
  out.add(sliding_window, window);
  if (!usual) out.add("attention.sliding_window_pattern", slides);
}

std::vector<RopeTensor> gguf_rope_tensors(const Config& c) {
  if (c.ropes.empty() || c.ropes.front().yarn) return {};
  const RopeConfig& rope = c.ropes.front();
  if (!rope.long_divisors.empty()) return {{rope_short, rope.divisors}, {rope_long, rope.long_divisors}};
  if (alike(rope.divisors)) return {};
  return {{rope_freqs, rope.divisors}};
}

LayerPlan with_gguf_biases(const GgufKeys& keys, LayerPlan plan) {
  plan.qkv_bias = keys.has_tensor(Role::wq, ".bias");
  plan.o_bias = keys.has_tensor(Role::wo, ".bias");
  plan.mlp_bias = keys.has_tensor(Role::mlp_up, ".bias");
  return plan;
}

}  // namespace pith::inline nn
