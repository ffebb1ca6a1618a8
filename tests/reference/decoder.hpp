// SPDX-License-Identifier: MIT
// The transformer again, in double precision: a masked forward pass over a whole sequence, written from the equations.
// It shares no arithmetic with the library; only how numbers are stored (Matrix::row, BlockTraits) comes from there.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "pith/nn/config.hpp"
#include "pith/nn/weights.hpp"
#include "pith/tensor/kv_format.hpp"
#include "pith/tokenizer.hpp"

namespace pith::reference {

using Rows = std::vector<std::vector<double>>;

/// Who sees whom, beside causality, the model's sliding window and its gate. Asked layer by layer and, in a layer,
/// query by query, so that what a query has attended to may decide what the next one sees.
class Visibility {
 public:
  virtual ~Visibility() = default;

  /// Does query n see token j <= n in a kv-head of a layer?
  virtual bool sees(int layer, int kv_head, int n, int j) const = 0;

  /// What a layer makes queries, keys and values of: inputs[token].
  virtual void reads(int layer, const Rows& inputs);

  /// What a model that DMS taught has decided in a layer: logits[token][kv_head].
  virtual void decides(int layer, const Rows& logits);

  /// What query n has attended to: weights[head][j], 0 where it did not see j.
  virtual void attended(int layer, int n, const Rows& weights);
};

struct Options {
  std::optional<double> tau = 0.0;   // strength of the model's gate, if it has one; nullopt: the gate is not asked
  Visibility* visibility = nullptr;  // what else is forgotten
  KvPair kv = KvFormat::f32;         // keys and values are rounded to what these formats can hold
};

struct Result {
  Rows logits;                                         // [token][vocab_size]
  std::vector<std::vector<std::vector<int>>> drop_at;  // [layer][kv_head][token] = first query not to see it, or -1
  /// [layer] smallest |s - threshold - tau| of the judgements up to each drop, and smallest difference of a router's
  /// logits between an expert that was chosen and one that was not.
  std::vector<double> min_margin;
  double mean_kept = 1;  // tokens seen / tokens before, over layers, kv-heads and queries
};

/// s[n,j] = (W_q x_n) . (W_k x_j) / sqrt(r) + b;  t_j = min { n >= j + recent : s[n,j] - threshold - tau <= 0 };
/// query n sees j iff j <= n < t_j; a token before gate.sinks has no t_j.
Result forward(const Config& config, const Weights& weights, std::span<const Token> tokens,
               const Options& options = {});

}  // namespace pith::reference
