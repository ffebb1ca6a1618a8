// SPDX-License-Identifier: MIT
// Groups of keys that several families have alike, each read and written in one place.
#pragma once

#include <string_view>
#include <vector>

#include "nn/arch/family.hpp"

namespace pith::inline nn {

// config.json

/// What it means that a key is absent; 0: it must be there.
struct Defaults {
  int context = 2048;
  int n_heads = 0, n_kv_heads = 0;  // 0 kv-heads: as many as heads
  int head_dim = 0;                 // 0: hidden_size / num_attention_heads
  double norm_eps = 1e-6;
  bool tied_head = false;
};

/// Sizes, norm_eps and tied head in the keys that most families have; and the layers, all of them as `plan`.
void read_sizes(const Keys& keys, const Defaults& defaults, const LayerPlan& plan, Config& config);

/// As config.json spells it.
std::string_view name(Activation activation);
Activation read_activation(const Keys& keys, std::string_view key, std::string_view fallback);

/// Llama's layers, with the biases and the activation that the keys name.
LayerPlan read_llama_plan(const Keys& keys);

/// How much of a head a RoPE may turn in a family.
enum class Rotary { whole, part };

/// One RoPE for all layers: theta and scaling, wherever newer and older files keep them; `theta` where none does.
void read_rope(const Keys& keys, Config& config, Rotary rotary = Rotary::whole, double theta = 10000);

/// One RoPE by the object `scaling`, with `theta` where that has none.
RopeConfig read_rope(const Keys& keys, const Keys& scaling, double theta, const Config& config,
                     Rotary rotary = Rotary::whole);

/// How many experts there are and how many a token goes through, or what it means that a key is absent.
Experts read_experts(const Keys& keys, Experts defaults);

/// The width of the sliding window, 0 for none; absent is not null: transformers then takes 4096.
int read_window(const Keys& keys);

/// The key layer_types, where it is there: which layers see only `window` tokens.
void read_layer_types(const Keys& keys, int window, Config& config);

/// d_model / n_heads, where the file does not name the size of a head.
int divided_head_dim(const Config& config, std::string_view where);

/// Throws Error (model) for heads that do not fit together.
void check_heads(const Config& config, std::string_view where);

// GGUF

inline constexpr std::string_view rms_epsilon = "attention.layer_norm_rms_epsilon";
inline constexpr std::string_view sliding_window = "attention.sliding_window";

/// Sizes, experts, tied head and norm_eps, of a key with this name; and the layers, all of them as `plan` but for what
/// the file says layer by layer.
void read_gguf_sizes(const GgufKeys& keys, std::string_view epsilon, const LayerPlan& plan, Config& config);
void write_gguf_sizes(const Config& config, std::string_view epsilon, GgufKeysOut& out);

/// One RoPE for all layers. Divisors that no key can say are tensors, gguf_rope_tensors.
void read_gguf_rope(const GgufKeys& keys, Config& config, Rotary rotary = Rotary::whole);
void write_gguf_rope(const Config& config, GgufKeysOut& out);

/// What all models with RMSNorm and one RoPE say: sizes, then the RoPE.
void write_gguf_usual(const Config& config, GgufKeysOut& out);

/// Windows: those of a period, of which the last layer has none (GgufKeys::pattern), where the file does not say which.
void read_gguf_windows(const GgufKeys& keys, int window, int period, Config& config);
void write_gguf_windows(const Config& config, int period, GgufKeysOut& out);

/// ggml's tensors that divide frequencies beside what the metadata says: of all sessions, of short and of long ones.
inline constexpr std::string_view rope_freqs = "rope_freqs.weight";
inline constexpr std::string_view rope_short = "rope_factors_short.weight";
inline constexpr std::string_view rope_long = "rope_factors_long.weight";
inline constexpr std::string_view rope_tensors[] = {rope_freqs, rope_short, rope_long};
struct RopeTensor {
  std::string_view name;
  std::vector<float> divisors;
};
std::vector<RopeTensor> gguf_rope_tensors(const Config& config);

/// The plan with the biases that the first layer has.
LayerPlan with_gguf_biases(const GgufKeys& keys, LayerPlan plan);

}  // namespace pith::inline nn
