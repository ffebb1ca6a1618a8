// SPDX-License-Identifier: MIT
// Reading a Config from config.json (as Hugging Face's transformers means it) or from a GGUF's metadata (as ggml does).
#include "nn/arch/config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::inline nn {

namespace {

using Json = nlohmann::json;

// No model comes near these; below them no product of two of a config's numbers overflows.
constexpr std::int64_t most_layers = 1 << 14;
constexpr std::int64_t most_heads = 1 << 14;
constexpr std::int64_t most_features = 1 << 24;  // of a row of activations
constexpr std::int64_t most_tokens = 1 << 26;    // in a vocabulary
constexpr std::int64_t most_positions = std::numeric_limits<std::int32_t>::max();

constexpr std::array<std::pair<std::string_view, Architecture>, 5> architectures = {{
    {"gpt2", Architecture::gpt2},
    {"llama", Architecture::llama},
    {"mistral", Architecture::mistral},
    {"qwen2", Architecture::qwen2},
    {"qwen3", Architecture::qwen3},
}};

[[noreturn]] void unsupported(std::string_view where, std::string_view expected, std::string_view found) {
  fail(ErrorCode::unsupported, where, expected, found);
}

void check_shape(const Config& c, std::string_view where) {
  const auto expect = [&](bool holds, const char* expected, int found) {
    if (!holds) fail(ErrorCode::model, where, expected, std::to_string(found));
  };
  const auto heads = std::to_string(c.n_heads);
  expect(c.n_heads % c.n_kv_heads == 0, ("key-value heads that divide the " + heads + " heads").c_str(), c.n_kv_heads);
  expect(std::int64_t{c.n_heads} * c.head_dim <= most_features, ("head_dim that fits " + heads + " heads").c_str(),
         c.head_dim);
  if (c.architecture != Architecture::gpt2)
    expect(c.head_dim % 2 == 0, "an even head_dim, for rotary position embedding", c.head_dim);
}

/// Everything is computed in f32 in the end.
bool fits_float(double value) { return std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()); }

/// d_model / n_heads, where the file does not name the size of a head.
int divided_head_dim(const Config& c, std::string_view where) {
  if (c.d_model % c.n_heads != 0)
    fail(ErrorCode::model, where, "an embedding size that is a multiple of its " + std::to_string(c.n_heads) + " heads",
         std::to_string(c.d_model));
  return c.d_model / c.n_heads;
}

/// Ids beyond the vocabulary, which real files have for "none", can be neither fed nor sampled.
bool is_token(const Config& c, std::int64_t id) { return id >= 0 && id < c.vocab_size; }

void add_end_token(Config& c, std::int64_t id) {
  if (!is_token(c, id)) return;
  const auto token = static_cast<std::int32_t>(id);
  if (std::find(c.end_tokens.begin(), c.end_tokens.end(), token) == c.end_tokens.end()) c.end_tokens.push_back(token);
}

/// An object's keys, read with type and range checks. A key that is null counts as absent, as it does in transformers.
class Keys {
 public:
  Keys(const Json& object, std::string_view where) : object_(object), where_(where) {
    if (!object.is_object()) fail(ErrorCode::model, where_, "a JSON object", object.type_name());
  }

  std::string where(std::string_view key) const { return where_ + ": " + std::string(key); }

  const Json* find(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  bool is_null(std::string_view key) const {
    const auto found = object_.find(key);
    return found != object_.end() && found->is_null();
  }

  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const {
    const Json* value = find(key);
    fail(ErrorCode::model, where(key), expected, value == nullptr ? "no such key" : printable(value->dump()));
  }

  int count(std::string_view key, std::int64_t most, std::int64_t least = 1) const {
    const Json* value = find(key);
    std::int64_t n = 0;
    // Beyond int64, get() wraps to a negative number; floats are not taken for integers.
    if (value != nullptr && value->is_number_integer()) n = value->get<std::int64_t>();
    if (value == nullptr || !value->is_number_integer() || n < least || n > most)
      refuse(key, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
    return static_cast<int>(n);
  }

  int count_or(std::string_view key, std::int64_t most, int fallback, std::int64_t least = 1) const {
    return find(key) == nullptr ? fallback : count(key, most, least);
  }

  double number(std::string_view key) const {
    const Json* value = find(key);
    if (value == nullptr || !value->is_number() || !fits_float(value->get<double>())) refuse(key, "a finite number");
    return value->get<double>();
  }

  double number_or(std::string_view key, double fallback) const {
    return find(key) == nullptr ? fallback : number(key);
  }

  double positive_or(std::string_view key, double fallback) const {
    const double value = number_or(key, fallback);
    if (!(static_cast<float>(value) > 0.0f)) refuse(key, "a positive number");
    return value;
  }

  double positive(std::string_view key) const {
    number(key);
    return positive_or(key, 1.0);
  }

  bool flag(std::string_view key, bool fallback) const {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) refuse(key, "true or false");
    return value->get<bool>();
  }

  std::string text(std::string_view key) const {
    const Json* value = find(key);
    if (value == nullptr || !value->is_string()) refuse(key, "a string");
    return value->get<std::string>();
  }

  /// An integer or a list of integers; empty when absent.
  std::vector<std::int64_t> tokens(std::string_view key) const {
    const Json* value = find(key);
    std::vector<std::int64_t> out;
    if (value == nullptr) return out;
    const auto add = [&](const Json& id) {
      if (!id.is_number_integer()) refuse(key, "a token id or a list of them");
      out.push_back(id.get<std::int64_t>());
    };
    if (value->is_array()) {
      std::for_each(value->begin(), value->end(), add);
    } else {
      add(*value);
    }
    return out;
  }

  void refuse_unless(std::string_view key, bool supported) const {
    if (flag(key, supported) != supported)
      unsupported(where(key), supported ? "true" : "false", supported ? "false" : "true");
  }

 private:
  const Json& object_;
  std::string where_;
};

Architecture read_model_type(const Keys& keys) {
  const auto type = keys.text("model_type");
  std::string known;
  for (const auto& [text, architecture] : architectures) {
    if (text == type) return architecture;
    known += (known.empty() ? "one of " : ", ") + std::string(text);
  }
  unsupported(keys.where("model_type"), known, in_quotes(type));
}

Activation read_activation(const Keys& keys, std::string_view key, std::string_view fallback) {
  const auto found = keys.find(key) == nullptr ? std::string(fallback) : keys.text(key);
  if (found == "silu" || found == "swish") return Activation::silu;
  if (found == "gelu") return Activation::gelu;
  if (found == "gelu_new" || found == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  unsupported(keys.where(key), "silu, gelu, gelu_new or gelu_pytorch_tanh", in_quotes(found));
}

void read_special_tokens(const Keys& keys, Config& c) {
  const auto bos = keys.tokens("bos_token_id");
  if (!c.bos && !bos.empty() && is_token(c, bos.front())) c.bos = static_cast<std::int32_t>(bos.front());
  for (const std::int64_t id : keys.tokens("eos_token_id")) add_end_token(c, id);
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

void read_rope(const Keys& keys, Config& c) {
  // Newer files keep all of it, theta too, in "rope_parameters"; older ones only the scaling, in "rope_scaling".
  const char* name = keys.find("rope_parameters") != nullptr ? "rope_parameters" : "rope_scaling";
  const Json none = Json::object();
  const Json* object = keys.find(name);
  const Keys scaling(object == nullptr ? none : *object, keys.where(name));

  for (const char* layers : {"full_attention", "sliding_attention"})
    if (scaling.find(layers) != nullptr)
      unsupported(scaling.where(layers), "one RoPE for all layers", "one per type of layer");
  for (const Keys* place : {&keys, &scaling})
    if (place->number_or("partial_rotary_factor", 1.0) != 1.0)
      unsupported(place->where("partial_rotary_factor"), "1", printable(place->find("partial_rotary_factor")->dump()));

  const double theta = scaling.positive_or("rope_theta", keys.positive_or("rope_theta", 10000.0));
  c.rope.pairs = RopeConfig::Pairs::halves;
  c.rope.theta = static_cast<float>(theta);

  const char* key = scaling.find("rope_type") != nullptr ? "rope_type" : "type";
  const auto type = scaling.find(key) == nullptr ? std::string("default") : scaling.text(key);
  if (type == "linear") {
    c.rope.divisors.assign(static_cast<std::size_t>(c.head_dim / 2), static_cast<float>(scaling.positive("factor")));
  } else if (type == "llama3") {
    c.rope.divisors = llama3_divisors(scaling, c.head_dim, theta);
  } else if (type != "default") {
    unsupported(scaling.where(key), "default, linear or llama3", in_quotes(type));
  }
}

/// Which layers see only a window of the past, and how wide it is.
void read_windows(const Keys& keys, Config& c) {
  const auto layers = static_cast<std::size_t>(c.n_layers);
  const bool mistral = c.architecture == Architecture::mistral;
  // Qwen's files name a window that is not in use; Llama has none.
  const bool in_use = mistral || (c.architecture != Architecture::llama && keys.flag("use_sliding_window", false));
  // Absent is not null here: transformers then takes 4096.
  const int window =
      in_use && !keys.is_null("sliding_window") ? keys.count_or("sliding_window", most_positions, 4096) : 0;

  std::size_t first = 0;  // of those that slide
  if (!mistral && window > 0)
    first = static_cast<std::size_t>(keys.count_or("max_window_layers", most_positions, 28, 0));
  if (window > 0) {
    c.sliding_window.assign(layers, 0);
    for (std::size_t i = first; i < layers; ++i) c.sliding_window[i] = window;
  }

  const Json* types = keys.find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array() || types->size() != layers)
    keys.refuse("layer_types", "a list of " + std::to_string(layers) + " types, one for each layer");
  c.sliding_window.assign(layers, 0);
  for (std::size_t i = 0; i < layers; ++i) {
    const Json& type = (*types)[i];
    if (type == "sliding_attention") {
      if (window == 0) keys.refuse("sliding_window", "the window of the layers that slide by layer_types");
      c.sliding_window[i] = window;
    } else if (type != "full_attention") {
      unsupported(keys.where("layer_types"), "full_attention or sliding_attention", printable(type.dump()));
    }
  }
}

void refuse_quantisation(const Keys& keys) {
  const Json* found = keys.find("quantization_config");
  if (found == nullptr) return;
  const Keys quantisation(*found, keys.where("quantization_config"));
  unsupported(
      keys.where("quantization_config"), "weights in F32, F16 or BF16",
      quantisation.find("quant_method") == nullptr ? "quantised ones" : in_quotes(quantisation.text("quant_method")));
}

void read_gpt2(const Keys& keys, Config& c) {
  c.d_model = keys.count("n_embd", most_features);
  c.n_layers = keys.count("n_layer", most_layers);
  c.n_heads = keys.count("n_head", most_heads);
  c.n_kv_heads = c.n_heads;
  c.head_dim = divided_head_dim(c, keys.where("n_embd"));
  c.d_ff = keys.count_or("n_inner", most_features, 4 * c.d_model);
  c.context = keys.count_or("n_positions", most_positions, 1024);
  c.norm_eps = static_cast<float>(keys.positive_or("layer_norm_epsilon", 1e-5));
  c.activation = read_activation(keys, "activation_function", "gelu_new");
  c.tied_head = keys.flag("tie_word_embeddings", true);
  c.attention_bias = true;
  c.mlp_bias = true;
  keys.refuse_unless("scale_attn_weights", true);
  keys.refuse_unless("scale_attn_by_inverse_layer_idx", false);
  keys.refuse_unless("add_cross_attention", false);
}

void read_llama(const Keys& keys, Config& c) {
  const bool qwen3 = c.architecture == Architecture::qwen3;
  c.d_model = keys.count("hidden_size", most_features);
  c.n_layers = keys.count("num_hidden_layers", most_layers);
  c.n_heads = keys.count("num_attention_heads", most_heads);
  c.n_kv_heads = keys.count_or("num_key_value_heads", most_heads, c.n_heads);
  if (keys.find("head_dim") != nullptr) {
    c.head_dim = keys.count("head_dim", most_features);
  } else {
    c.head_dim = qwen3 ? 128 : divided_head_dim(c, keys.where("hidden_size"));
  }
  c.d_ff = keys.count("intermediate_size", most_features);
  c.context =
      keys.count_or("max_position_embeddings", most_positions, c.architecture == Architecture::llama ? 2048 : 32768);
  c.norm_eps = static_cast<float>(keys.positive_or("rms_norm_eps", 1e-6));
  c.activation = read_activation(keys, "hidden_act", "silu");
  c.tied_head = keys.flag("tie_word_embeddings", false);
  switch (c.architecture) {
    case Architecture::llama:
      c.attention_bias = keys.flag("attention_bias", false);
      c.mlp_bias = keys.flag("mlp_bias", false);
      break;
    case Architecture::qwen2:
      c.attention_bias = true;
      break;
    case Architecture::qwen3:
      c.attention_bias = keys.flag("attention_bias", false);
      break;
    case Architecture::gpt2:
    case Architecture::mistral:
      break;
  }
  check_shape(c, keys.where("num_attention_heads, num_key_value_heads, head_dim"));
  read_rope(keys, c);
  read_windows(keys, c);
}

/// A GGUF's keys below the name of its architecture.
class GgufKeys {
 public:
  GgufKeys(const gguf::File& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + '.') {}

  std::string where(std::string_view key) const {
    return file_.file->path().string() + ": key " + in_quotes(full(key));
  }
  bool has(std::string_view key) const { return file_.find(full(key)) != nullptr; }

  int count(std::string_view key, std::int64_t most) const {
    const auto n = file_.get<std::int64_t>(full(key));
    if (n < 1 || n > most)
      fail(ErrorCode::model, where(key), "an integer from 1 to " + std::to_string(most), std::to_string(n));
    return static_cast<int>(n);
  }

  int count_or(std::string_view key, std::int64_t most, int fallback) const {
    return has(key) ? count(key, most) : fallback;
  }

  float positive(std::string_view key) const {
    const auto value = file_.get<double>(full(key));
    if (!fits_float(value) || !(static_cast<float>(value) > 0.0f))
      fail(ErrorCode::model, where(key), "a positive, finite number", std::to_string(value));
    return static_cast<float>(value);
  }

  float positive_or(std::string_view key, float fallback) const { return has(key) ? positive(key) : fallback; }

  std::string text_or(std::string_view key, std::string fallback) const {
    return file_.get_or(full(key), std::move(fallback));
  }

  /// Keys for which 0 means that there is nothing of the kind.
  bool nonzero(std::string_view key) const { return file_.get_or<std::int64_t>(full(key), 0) != 0; }

 private:
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }

  const gguf::File& file_;
  std::string prefix_;
};

const gguf::Tensor* find_tensor(const gguf::File& file, std::string_view name) {
  const auto found =
      std::find_if(file.tensors.begin(), file.tensors.end(), [&](const gguf::Tensor& t) { return t.name == name; });
  return found == file.tensors.end() ? nullptr : &*found;
}

Architecture read_gguf_architecture(const gguf::File& file) {
  const auto found = file.get<std::string>("general.architecture");
  for (const auto& [text, architecture] : architectures)
    if (text == found && architecture != Architecture::mistral) return architecture;  // ggml calls Mistral "llama"
  unsupported(file.file->path().string() + ": key \"general.architecture\"", "one of gpt2, llama, qwen2, qwen3",
              in_quotes(found));
}

int read_gguf_vocabulary(const gguf::File& file) {
  const auto where = file.file->path().string();
  if (file.tensors.empty()) fail(ErrorCode::model, where, "the tensors of a model", "none: a vocabulary only");
  const gguf::Tensor* embedding = find_tensor(file, "token_embd.weight");
  if (embedding == nullptr) fail(ErrorCode::model, where, "tensor \"token_embd.weight\"", "no such tensor");
  if (embedding->shape.size() != 2 || embedding->shape[0] > most_tokens)
    fail(ErrorCode::model, where + ": tensor \"token_embd.weight\"",
         "[tokens, features] with at most " + std::to_string(most_tokens) + " tokens",
         std::to_string(embedding->shape.size()) + " dimensions, the first of " +
             (embedding->shape.empty() ? "none" : std::to_string(embedding->shape[0])));
  return static_cast<int>(embedding->shape[0]);
}

void read_gguf_rope(const GgufKeys& keys, Config& c) {
  const int rotated = keys.count_or("rope.dimension_count", most_features, c.head_dim);
  if (rotated != c.head_dim)
    unsupported(keys.where("rope.dimension_count"), std::to_string(c.head_dim) + ", all of a head",
                std::to_string(rotated));
  // ggml's Llama weights are permuted so that neighbours are pairs.
  c.rope.pairs = c.architecture == Architecture::llama ? RopeConfig::Pairs::adjacent : RopeConfig::Pairs::halves;
  c.rope.theta = keys.positive_or("rope.freq_base", 10000.0f);

  // A factor without a type is linear; before there were types it had another name.
  const char* key = keys.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const auto type = keys.text_or("rope.scaling.type", keys.has(key) ? "linear" : "none");
  if (type != "none" && type != "linear")
    unsupported(keys.where("rope.scaling.type"), "none or linear", in_quotes(type));
  if (type == "linear" && keys.has(key))
    c.rope.divisors.assign(static_cast<std::size_t>(c.head_dim / 2), keys.positive(key));
}

}  // namespace

std::string_view name(Architecture architecture) {
  for (const auto& [text, candidate] : architectures)
    if (candidate == architecture) return text;
  return "unknown";
}

Config read_config(const nlohmann::json& config, std::string_view where) {
  const Keys keys(config, where);
  Config c;
  c.architecture = read_model_type(keys);
  refuse_quantisation(keys);
  c.vocab_size = keys.count("vocab_size", most_tokens);
  if (c.architecture == Architecture::gpt2) {
    read_gpt2(keys, c);
  } else {
    read_llama(keys, c);
  }
  read_special_tokens(keys, c);
  return c;
}

void read_generation_config(const nlohmann::json& generation, std::string_view where, Config& config) {
  read_special_tokens(Keys(generation, where), config);
}

Config read_config(const gguf::File& file) {
  Config c;
  c.architecture = read_gguf_architecture(file);
  c.vocab_size = read_gguf_vocabulary(file);

  const GgufKeys keys(file, std::string(name(c.architecture)));
  if (keys.nonzero("expert_count"))
    unsupported(keys.where("expert_count"), "a model without experts", "a mixture of them");
  c.d_model = keys.count("embedding_length", most_features);
  c.n_layers = keys.count("block_count", most_layers);
  c.n_heads = keys.count("attention.head_count", most_heads);
  c.n_kv_heads = keys.count_or("attention.head_count_kv", most_heads, c.n_heads);
  const bool named = keys.has("attention.key_length");
  c.head_dim =
      named ? keys.count("attention.key_length", most_features) : divided_head_dim(c, keys.where("embedding_length"));
  const int value_dim = keys.count_or("attention.value_length", most_features, c.head_dim);
  if (value_dim != c.head_dim)
    unsupported(keys.where("attention.value_length"), "the key length " + std::to_string(c.head_dim),
                std::to_string(value_dim));
  check_shape(c, keys.where("attention.head_count"));
  c.d_ff = keys.count("feed_forward_length", most_features);
  c.context = keys.count("context_length", most_positions);
  c.tied_head = find_tensor(file, "output.weight") == nullptr;

  if (c.architecture == Architecture::gpt2) {
    c.norm_eps = keys.positive("attention.layer_norm_epsilon");
    c.activation = Activation::gelu_tanh;
    c.attention_bias = true;
    c.mlp_bias = true;
  } else {
    c.norm_eps = keys.positive("attention.layer_norm_rms_epsilon");
    c.activation = Activation::silu;
    c.attention_bias = find_tensor(file, "blk.0.attn_q.bias") != nullptr;
    c.mlp_bias = find_tensor(file, "blk.0.ffn_up.bias") != nullptr;
    read_gguf_rope(keys, c);
  }
  if (keys.nonzero("attention.sliding_window")) {
    const int window = keys.count("attention.sliding_window", most_positions);
    // Only for the llama architecture (Mistral) does the key mean all layers alike.
    if (c.architecture == Architecture::llama) {
      c.sliding_window.assign(static_cast<std::size_t>(c.n_layers), window);
    } else if (window < c.context) {
      unsupported(keys.where("attention.sliding_window"), "no sliding window", std::to_string(window));
    }
  }

  const auto bos = file.get_or<std::int64_t>("tokenizer.ggml.bos_token_id", -1);
  if (is_token(c, bos)) c.bos = static_cast<std::int32_t>(bos);
  for (const char* end : {"eos", "eot", "eom"})
    add_end_token(c, file.get_or<std::int64_t>("tokenizer.ggml." + std::string(end) + "_token_id", -1));
  return c;
}

DropGateConfig read_drop_gate(const nlohmann::json& gate, std::string_view where) {
  const Keys keys(gate, where);
  const auto type = keys.text("type");
  if (type != "interaction") unsupported(keys.where("type"), "\"interaction\"", in_quotes(type));
  keys.refuse_unless("propagate_in_depth", false);
  DropGateConfig out;
  out.dim = keys.count_or("dim", most_features, 0);
  out.threshold = static_cast<float>(keys.number_or("threshold", 0.0));
  out.recent = keys.count_or("recent", most_positions, 1);
  return out;
}

}  // namespace pith::inline nn
