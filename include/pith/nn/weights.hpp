// SPDX-License-Identifier: MIT
// A model's parameters, as plain structs of matrices and vectors. A projection is [out_features, in_features].
#pragma once

#include <vector>

#include "pith/tensor/matrix.hpp"

namespace pith::inline nn {

struct Linear {
  Matrix weight;
  std::vector<float> bias;  // [out_features], or empty
};

struct NormWeights {
  std::vector<float> weight;  // [n]; empty = no such norm
  std::vector<float> bias;    // [n], Norm::layer only
};

/// Of each gate s[n, j] = (wq x_n) . (wk x_j) / sqrt(r) + bias (arXiv 2305.15805, eq. 4); Config::gates() of them.
struct DropGateWeights {
  Matrix wq, wk;            // [gates * r, d_model]
  std::vector<float> bias;  // [gates]
};

/// act(h gate^T) * (h up^T) or act(h up^T), times down^T.
struct MlpWeights {
  Linear gate;  // [d_ff, d_model], gated MLPs only
  Linear up;    // [d_ff, d_model]
  Linear down;  // [d_model, d_ff]
};

/// Which of them a layer has is said by its LayerPlan; the others are empty.
struct LayerWeights {
  NormWeights attention_norm;       // [d_model]
  Linear wq;                        // [n_heads * head_dim, d_model]
  Linear wk, wv;                    // [n_kv_heads * head_dim, d_model]
  Linear wo;                        // [d_model, n_heads * head_dim]
  NormWeights q_norm, k_norm;       // as QkNorm says
  DropGateWeights drop_gate;        // with a gate only
  NormWeights post_attention_norm;  // [d_model]
  NormWeights mlp_norm;             // [d_model]
  MlpWeights mlp;                   // without experts only
  Matrix router;                    // [experts, d_model]
  std::vector<MlpWeights> experts;  // of Experts::count
  NormWeights post_mlp_norm;        // [d_model]
};

struct Weights {
  Matrix embedding;  // [vocab_size, d_model]
  Matrix positions;  // [context, d_model], learned positions only
  std::vector<LayerWeights> layers;
  NormWeights final_norm;  // [d_model]
  Matrix head;             // [vocab_size, d_model]; the embedding when tied
};

}  // namespace pith::inline nn
