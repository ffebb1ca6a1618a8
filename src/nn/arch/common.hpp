// SPDX-License-Identifier: MIT
// Groups of keys that several families have alike, each read and written in one place.
#pragma once

#include <string_view>
#include <vector>

#include "nn/arch/family.hpp"

namespace pith::inline nn {

// config.json

/// What it means that a key is absent.
struct Defaults {
  int context = 2048;
  int head_dim = 0;  // 0: hidden_size / num_attention_heads
};

/// Sizes, norm_eps and tied head in the keys that most families have; and the layers, all of them as `plan`.
void read_sizes(const Keys& keys, const Defaults& defaults, const LayerPlan& plan, Config& config);

Activation read_activation(const Keys& keys, std::string_view key, std::string_view fallback);

/// One RoPE for all layers: theta and scaling, wherever newer and older files keep them.
void read_rope(const Keys& keys, Config& config);

/// The width of the sliding window, 0 for none; absent is not null: transformers then takes 4096.
int read_window(const Keys& keys);

/// The key layer_types, where it is there: which layers see only `window` tokens.
void read_layer_types(const Keys& keys, int window, Config& config);

/// d_model / n_heads, where the file does not name the size of a head.
int divided_head_dim(const Config& config, std::string_view where);

/// Throws Error (model) for heads that do not fit together.
void check_heads(const Config& config, std::string_view where);

// GGUF

/// Sizes, tied head and norm_eps, of a key with this name; and the layers, all of them as `plan`.
void read_gguf_sizes(const GgufKeys& keys, std::string_view epsilon, const LayerPlan& plan, Config& config);
void write_gguf_sizes(const Config& config, std::string_view epsilon, GgufKeysOut& out);

/// One RoPE for all layers. Divisors that differ are a tensor, gguf_divisors.
void read_gguf_rope(const GgufKeys& keys, Config& config);
void write_gguf_rope(const Config& config, GgufKeysOut& out);
inline constexpr std::string_view rope_freqs = "rope_freqs.weight";
std::vector<float> gguf_divisors(const Config& config);  // empty where metadata says it all

/// The plan with the biases that the first layer has.
LayerPlan with_gguf_biases(const GgufKeys& keys, LayerPlan plan);
LayerPlan with_biases_of(const Config& config, LayerPlan plan);

/// Refuses a model of which any layer does otherwise than `plan`, windows apart, or that has what only Config says.
void require_plan(const Config& config, const LayerPlan& plan, const GgufKeysOut& out);

/// The window that all layers have, 0 for none; refuses different ones.
int common_window(const Config& config, const GgufKeysOut& out);

}  // namespace pith::inline nn
