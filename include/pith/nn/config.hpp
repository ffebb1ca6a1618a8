// SPDX-License-Identifier: MIT
// The shape of a model: what config.json or a GGUF's metadata says of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pith::inline nn {

enum class Architecture : std::uint8_t { gpt2, llama, mistral, qwen2, qwen3 };

enum class Activation : std::uint8_t { silu, gelu, gelu_tanh };

/// Rotary position embedding (Su et al., arXiv 2104.09864).
struct RopeConfig {
  /// Which two of a head's numbers form the pair that is rotated together.
  enum class Pairs : std::uint8_t {
    halves,    // (i, i + dim/2): Hugging Face's weights
    adjacent,  // (2i, 2i + 1): GGUF's Llama weights
  };
  Pairs pairs = Pairs::halves;
  float theta = 10000.0f;
  /// Frequency i is theta^(-2i/dim) / divisors[i]; empty = all 1. Linear and Llama 3 scaling are expressed here.
  std::vector<float> divisors;  // [head_dim / 2]
};

/// The learned gate of a checkpoint (Anagnostidis et al., arXiv 2305.15805, section 3).
struct DropGateConfig {
  int dim = 0;             // r, the width of the gate's queries and keys
  float threshold = 0.0f;  // keep iff s - threshold - tau > 0
  int recent = 1;          // a token cannot be dropped by the next recent - 1 tokens
};

struct Config {
  Architecture architecture = Architecture::llama;
  int vocab_size = 0;
  int d_model = 0;
  int n_layers = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int d_ff = 0;
  int context = 0;  // positions the model was made for
  float norm_eps = 1e-5f;
  Activation activation = Activation::silu;
  bool tied_head = false;
  bool attention_bias = false;  // on q, k and v (all but qwen2: on o too)
  bool mlp_bias = false;
  RopeConfig rope;                     // gpt2: unused
  std::vector<int> sliding_window;     // per layer, tokens visible with the token itself; 0 = all; empty = all for all
  std::optional<DropGateConfig> gate;  // of the checkpoint or its sidecar
  std::optional<std::int32_t> bos;
  std::vector<std::int32_t> end_tokens;

  int d_query() const { return n_heads * head_dim; }
  int d_kv() const { return n_kv_heads * head_dim; }
  int group() const { return n_heads / n_kv_heads; }  // query heads that share one kv-head
  int window(int layer) const { return sliding_window.empty() ? 0 : sliding_window[static_cast<std::size_t>(layer)]; }
};

std::string_view name(Architecture architecture);

}  // namespace pith::inline nn
