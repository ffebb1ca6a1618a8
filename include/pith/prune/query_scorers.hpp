// SPDX-License-Identifier: MIT
// Scorers that look behind stored keys: they remember queries with the lane, and undo the rotation by position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "pith/api.hpp"
#include "pith/prune/scorers.hpp"

namespace pith::prune {

/// What a future query can be expected to give (Devoto et al., arXiv 2510.00636). Un-rotated queries of all
/// tokens but the first `sinks` are summed up by their mean m and covariance C; with R the mean rotation of the `ahead`
/// positions to come and s the scale of scores, y_j = R^T k_j and
///   z_j = s y_j . m + s^2 / 2 y_j . C y_j,   worth_j = (mean over the group of softmax_j(z) + epsilon) |v_j|_2
/// over the rows that are no sinks. Sums run token by token, whatever the passes are.
struct PITH_API ExpectedAttention {
  enum class Covariance : std::uint8_t { none, diagonal, full };
  /// (next token to be looked at, tokens so far), then for each query head of a lane the mean [head_dim] and the sum of
  /// products of deviations from it [head_dim], or [head_dim][head_dim] above the diagonal, or nothing.
  static constexpr std::string_view state = "expected_attention";

  int sinks = 4;
  Covariance covariance = Covariance::full;
  float epsilon = 0;
  int ahead = 512;

  Needs needs() const { return {}; }
  void watch(const KvLayer& layer, const Moment& moment) const;
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// What recent queries look at, and what is not there twice (R-KV, Cai et al., arXiv 2505.24133):
///   weight * a_j - (1 - weight) * r_j
/// a: attention of the last `window` queries over the rows before them, the mean over queries and the group, then the
/// maximum over `pool` neighbours; r: the softmax over rows of the mean over i of cos(k_i, k_j), where of the rows j
/// whose cosine with i is above `alike` the latest counts 0.
struct PITH_API Redundancy {
  /// For each of the last queries: position, then its heads of the lane [heads][head_dim].
  static constexpr std::string_view state = "recent_queries";

  int window = 8;
  int pool = 7;  // odd
  float weight = 0.07f;
  float alike = 0.5f;

  Needs needs() const { return {}; }
  void watch(const KvLayer& layer, const Moment& moment) const;
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// How far a key stands out: leverage of the un-rotated keys minus their mean, in a random projection S to `sketch`
/// dimensions, x_j^T (X^T X + 0.01 I)^-1 x_j with x_j = S^T k_j, in standard deviations from its mean over the rows
/// that are neither among the first `sinks` nor the last `recent` tokens (Chari and Van Durme, arXiv 2507.08143).
struct PITH_API Leverage {
  int sinks = 4, recent = 4;
  int sketch = 48;
  int seed = 1;

  Needs needs() const { return {}; }
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

/// blend * leverage + what the queries of a row's own block of `block` prompt tokens give it, before and after it: the
/// sum over them of softmax over the block, times |v_j|_2, averaged over three neighbours, in standard deviations from
/// its mean (Compactor, the same paper). Blocks count from the first token that is not spared.
struct PITH_API BlockAttention {
  static constexpr Column received{"block_attention"};  // the sum over queries, the mean over the group
  /// Position of the first of the block's queries so far, then them: [query][heads of the lane][head_dim].
  static constexpr std::string_view state = "block_queries";

  Leverage leverage;
  float blend = 0.35f;
  int block = 256;

  Needs needs() const { return {.evidence = received}; }
  void watch(const KvLayer& layer, const Moment& moment) const;
  void score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const;
};

}  // namespace pith::prune
