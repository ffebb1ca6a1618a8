// SPDX-License-Identifier: MIT
// Attention of new tokens over the rows of their lanes: exact, in one sweep over the pages (online softmax, Milakov and
// Gimelshein, arXiv 1805.02867), each stored row loaded once for all query heads that share it.
#pragma once

#include <cstddef>
#include <memory>

#include "pith/api.hpp"
#include "pith/nn/config.hpp"
#include "pith/nn/pass.hpp"
#include "pith/tensor/parallel.hpp"
#include "pith/tensor/view.hpp"

namespace pith::inline nn {

/// The attention of one model's layers; its memory is reused from pass to pass.
class PITH_API Attention {
 public:
  /// `config` outlives it.
  Attention(const Config& config, const prune::Needs& needs);
  ~Attention();
  Attention(Attention&&) noexcept;
  Attention& operator=(Attention&&) noexcept;

  /// out[t, h] = sum_j softmax_j(cap(scale q[t, h] . k[j])) v[j] over the rows j that t sees in the pass's layer, with
  /// query_scale and score_cap of its plan.
  /// q, out: [tokens, n_heads * head_dim]. Adds to the rows' evidence what the policy wants to know.
  void operator()(const Pass& pass, View<const float> q, View<float> out, const Threads& threads);

 private:
  struct PITH_LOCAL Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pith::inline nn
