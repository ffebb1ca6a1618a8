// SPDX-License-Identifier: MIT
// A model as data: what config.json or a GGUF's metadata says of it, layer by layer.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "pith/api.hpp"

namespace pith::inline nn {

enum class Architecture : std::uint8_t {
  gpt2,
  llama,
  mistral,
  mixtral,
  qwen2,
  qwen3,
  qwen3_moe,
  gemma2,
  gemma3,
  phi3,
  smollm3,
  olmo2,
  granite
};

enum class Norm : std::uint8_t {
  rms,           // x / rms(x) * weight (Zhang and Sennrich, arXiv 1910.07467)
  rms_plus_one,  // x / rms(x) * (1 + weight)
  layer,         // (x - mean) / deviation * weight + bias (Ba et al., arXiv 1607.06450)
};

/// What the queries and keys are normalised over before they are rotated.
enum class QkNorm : std::uint8_t {
  none,
  head,  // each head for itself; weight [head_dim]
  all,   // all heads together; weight [n_heads * head_dim] and [n_kv_heads * head_dim]
};

enum class Mlp : std::uint8_t {
  plain,  // act(h W_up) W_down
  gated,  // (act(h W_gate) * h W_up) W_down (Shazeer, arXiv 2002.05202)
};

enum class Activation : std::uint8_t { silu, gelu, gelu_tanh };

/// A mixture of MLPs (Shazeer et al., arXiv 1701.06538): of the softmax over a router's logits h W, the `chosen`
/// largest weigh what their MLPs make of h; of equals, the first are chosen.
struct Experts {
  int count = 0;  // 0: one MLP for every token
  int chosen = 0;
  bool renormalised = true;  // the weights of the chosen sum to 1

  bool operator==(const Experts&) const = default;
};

/// What a layer does:
///   h = norm(x);  q, k, v = h W;  q, k = rope(norm(q)), rope(norm(k));  x += scale * norm(attention(q, k, v) W_o)
///   h = norm(x);  x += scale * norm(mlp(h))
/// where each norm may be absent.
struct LayerPlan {
  Norm norm = Norm::rms;    // all norms of the layer
  bool pre_norms = true;    // of what attention and MLP read
  bool post_norms = false;  // of what they add
  QkNorm qk_norm = QkNorm::none;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  Mlp mlp = Mlp::gated;
  Activation activation = Activation::silu;
  int rope = 0;           // which of Config::ropes turns queries and keys; -1: none does
  int window = 0;         // tokens that a query sees, itself included; 0: all
  float query_scale = 0;  // of q . k; 0: 1 / sqrt(head_dim)
  float score_cap = 0;    // c tanh(score / c) of the scaled q . k; 0: none
  int kv_from = -1;       // whose keys and values it reads, having none of its own: of an earlier layer with the same
                          // window; -1: it has its own
  int d_ff = 0;           // of its MLP, or of each expert; 0: Config::d_ff
  Experts experts = {};

  bool operator==(const LayerPlan&) const = default;
};

/// By what YaRN made a RoPE's divisors (Peng et al., arXiv 2309.00071), for files that say this and not the divisors.
struct YarnScaling {
  float factor = 1;
  float beta_fast = 32, beta_slow = 1;  // turns within the original context: more are kept, fewer stretched
  int original_context = 0;

  bool operator==(const YarnScaling&) const = default;
};

/// Rotary position embedding (Su et al., arXiv 2104.09864).
struct RopeConfig {
  float theta = 10000.0f;
  /// Frequency i is theta^(-2i/dim) / divisors[i]; empty = all 1. Every scaling is expressed here.
  std::vector<float> divisors = {};  // [dim / 2]
  int dim = 0;                       // how many of a head's numbers turn, the first ones; 0: all
  float magnitude = 1;               // of what has turned: the attention factor of YaRN and LongRoPE
  /// LongRoPE (Ding et al., arXiv 2402.13753): the divisors of a session whose context is longer than the original one.
  std::vector<float> long_divisors = {};  // [dim / 2], or empty
  int original_context = 0;               // 0 without long_divisors
  std::optional<YarnScaling> yarn = {};

  bool operator==(const RopeConfig&) const = default;
};

/// Which two of a head's numbers form the pair that is rotated together.
enum class RopePairs : std::uint8_t {
  halves,    // (i, i + dim/2): Hugging Face's weights
  adjacent,  // (2i, 2i + 1): GGUF's Llama weights
};

/// Whose gate it is: all heads of a layer forget alike, or each kv-head has a gate of its own.
enum class GateScope : std::uint8_t { layer, kv_head };

/// As files spell it.
constexpr std::string_view name(GateScope scope) { return scope == GateScope::kv_head ? "kv_head" : "layer"; }

/// The learned gates of a checkpoint (Anagnostidis et al., arXiv 2305.15805, section 3).
struct DropGateConfig {
  int dim = 0;             // r, the width of a gate's queries and keys
  float threshold = 0.0f;  // keep iff s - threshold - tau > 0
  int recent = 1;          // a token cannot be dropped by the next recent - 1 tokens
  int sinks = 0;           // the first tokens of a sequence, which are never dropped (Xiao et al., arXiv 2309.17453)
  GateScope scope = GateScope::layer;
};

/// Checkpoints that were taught to forget by Dynamic Memory Sparsification (Lancucki et al., arXiv 2506.05345). Before
/// it is turned, the last number of the first query head of each kv-head is taken out of the query, and is 0 in it:
/// scale * number - offset > 0 says of the token before that its row in this kv-head leaves.
struct DmsConfig {
  float scale = 100;
  float offset = 5;
  int window = 512;  // so many tokens behind its own see a row that leaves
};

struct Config {
  Architecture architecture = Architecture::llama;  // whose keys and names its files have; nothing is computed by it
  int vocab_size = 0;
  int d_model = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int d_ff = 0;
  int context = 0;  // positions the model was made for
  float norm_eps = 1e-5f;
  Norm final_norm = Norm::rms;
  bool tied_head = false;          // the head is the embedding
  bool learned_positions = false;  // a vector for each position is added to the embedding
  float embedding_scale = 1;       // of what a token's row of the embedding gives
  float residual_scale = 1;        // of what attention and MLP add
  float logit_scale = 1;
  float logit_cap = 0;  // c tanh(logit / c), after the scale; 0: none
  std::vector<LayerPlan> layers;
  std::vector<RopeConfig> ropes;
  RopePairs rope_pairs = RopePairs::halves;
  std::optional<DropGateConfig> gate;  // of the checkpoint or its sidecar; the same in all layers
  std::optional<DmsConfig> dms;
  std::optional<std::int32_t> bos;
  std::vector<std::int32_t> end_tokens;

  int n_layers() const { return static_cast<int>(layers.size()); }
  int d_query() const { return n_heads * head_dim; }
  int d_kv() const { return n_kv_heads * head_dim; }
  int group() const { return n_heads / n_kv_heads; }  // query heads that share one kv-head
  /// The layer whose keys and values a layer reads, and the last of those that read the same ones (Brandon et al.,
  /// arXiv 2405.12981).
  std::size_t kv_owner(std::size_t layer) const {
    return layers[layer].kv_from < 0 ? layer : static_cast<std::size_t>(layers[layer].kv_from);
  }
  std::size_t kv_last_reader(std::size_t layer) const {
    std::size_t last = layers.size() - 1;
    while (kv_owner(last) != kv_owner(layer)) --last;
    return last;
  }
  int d_ff_of(const LayerPlan& plan) const { return plan.d_ff > 0 ? plan.d_ff : d_ff; }
  /// Of q . k.
  float query_scale_of(const LayerPlan& plan) const {
    return plan.query_scale != 0 ? plan.query_scale : 1 / std::sqrt(static_cast<float>(head_dim));
  }
  int dim_of(const RopeConfig& rope) const { return rope.dim > 0 ? rope.dim : head_dim; }
  bool gate_per_head() const { return gate && gate->scope == GateScope::kv_head; }
  int gates() const { return gate_per_head() ? n_kv_heads : gate ? 1 : 0; }  // of a layer
};

/// "llama": Hugging Face's model_type.
PITH_API std::string_view name(Architecture architecture);

}  // namespace pith::inline nn
