// SPDX-License-Identifier: MIT
// Gates on a token's own state: what its rows will be worth is known when they are made.
#pragma once

#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "pith/api.hpp"
#include "pith/prune/option.hpp"
#include "pith/prune/policy.hpp"
#include "pith/tensor/matrix.hpp"

namespace pith::prune {

/// What a gate says that a row of its kv-head is worth: filled by the policy when the row is made.
inline constexpr Column worth_column{"worth"};

/// worth = W x + b (KVzap, Jegou and Jeblick, arXiv 2601.07891), with x what the layer makes queries, keys and values
/// of.
struct LinearWorth {
  Matrix weight;            // [kv_heads, d_model]
  std::vector<float> bias;  // [kv_heads]
};

/// worth = W' gelu(W x + b) + b' (the same, its form with a hidden layer).
struct MlpWorth {
  LinearWorth hidden;  // [hidden, d_model]
  LinearWorth out;     // [kv_heads, hidden]
};

/// worth = mean over g of 1 / (1 + sum over s of e^(c_s . q_g / sqrt(dim) - l_g)), where l_g = k . q_g / sqrt(dim) +
/// b_g, q_g = rms(W_q x + b_q), k = rms(W_k x), for each kv-head (Fast KVzip, Kim et al., arXiv 2601.17668).
struct SinkWorth {
  LinearWorth queries;                // [kv_heads * groups * dim, d_model]
  Matrix keys;                        // [kv_heads * dim, d_model]
  std::vector<float> q_norm, k_norm;  // [dim]
  std::vector<float> sinks;           // [kv_heads, sinks, dim]
  std::vector<float> bias;            // [kv_heads, groups]

  std::size_t dim() const { return q_norm.size(); }
};

using Worth = std::variant<LinearWorth, MlpWorth, SinkWorth>;

/// The gates of a model, one for each layer.
struct PITH_API WorthGates {
  std::string file;  // where they are from, as it was named; empty: from nowhere
  std::vector<Worth> layers;

  /// A safetensors file, or a folder with a model.safetensors, whose tensors have the names that the authors give them:
  /// KVzap's layers.0.weight and .bias, or layers.0.0 and layers.0.2 for its two layers; Fast KVzip's
  /// layers.0.q_proj.weight, .q_proj.bias, .k_proj.weight, .q_norm.weight, .k_norm.weight, .k_base and .b.
  /// Throws Error (file, format, model, unsupported), naming file, tensor, expected and found.
  static WorthGates read(const std::filesystem::path& file);

  std::size_t kv_heads() const;
  std::size_t d_model() const;
};

struct WorthGateOptions {
  float threshold = -4;
  int window = 128;
  int sinks = 4;

  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr std::tuple list = {
      Option{"threshold", &WorthGateOptions::threshold, -infinity, "what a row must be worth to stay", infinity},
      Option{"window", &WorthGateOptions::window, 0, "how many tokens behind it see a row in any case", 1 << 30},
      Option{"sinks", &WorthGateOptions::sinks, 0, "first tokens, which always stay"}};
};

/// From when on rows of a prompt that are worth too little are not seen.
enum class Prefill {
  dense,   // the prompt sees all of itself; they leave at its end
  sparse,  // as in decoding: window + 1 tokens behind their own
};

/// A row that is worth less than the threshold is seen by `window` tokens behind its own and no more, in every kv-head
/// for itself (KVzap; at Prefill::sparse as in DMS, arXiv 2506.05345). Exact, token by token, in any chunk.
/// Deviation: sinks are spared.
PITH_API AnyPolicy worth_gate(WorthGates gates, const WorthGateOptions& o = {}, Prefill prefill = Prefill::dense);

}  // namespace pith::prune
