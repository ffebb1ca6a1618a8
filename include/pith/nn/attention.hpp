// SPDX-License-Identifier: MIT
// Attention of new tokens over the rows of their lanes: exact, in one sweep over the pages (online softmax, Milakov and
// Gimelshein, arXiv 1805.02867), each stored row loaded once for all query heads that share it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "pith/nn/config.hpp"
#include "pith/nn/pass.hpp"
#include "pith/tensor/matrix.hpp"
#include "pith/tensor/parallel.hpp"
#include "pith/tensor/tensor.hpp"

namespace pith::inline nn {

/// Limits of the buffers that live on a task's stack.
inline constexpr std::size_t max_head_dim = 256;
inline constexpr std::size_t max_queries = 64;  // (token, head) pairs worked on together

class Attention {
 public:
  Attention(const Config& config, const prune::Needs& needs);

  /// out[t, h] = sum_j softmax_j(cap(scale q[t, h] . k[j])) v[j] over the rows j that t sees in the pass's layer, with
  /// query_scale and score_cap of its plan.
  /// q, out: [tokens, n_heads * head_dim]. Adds to the rows' evidence what the policy wants to know.
  void operator()(const Pass& pass, View<const float> q, View<float> out, const Threads& threads);

 private:
  // Queries of neighbouring kv-heads of a lane against some of its pages: [kv_head][token][head].
  struct Task {
    std::size_t segment, lane;
    std::size_t first_kv_head, kv_heads;  // of the lane
    std::size_t first_head, heads;        // of the queries: the first of all, and how many a kv-head has
    std::size_t token, tokens;            // rows of the pass
    std::size_t queries() const { return kv_heads * tokens * heads; }
    std::size_t head(std::size_t query) const { return first_head + query / (tokens * heads) * heads + query % heads; }
    std::size_t row(std::size_t query) const { return token + query / heads % tokens; }
    std::size_t first_page, end_page;
    std::size_t partial;  // of a tile that several tasks share: its index; else `whole`
  };
  static constexpr std::size_t whole = static_cast<std::size_t>(-1);

  static const Lane& lane_of(const Pass& pass, const Task& task);
  void plan(const Pass& pass);
  struct Sums;
  void attend(const Pass& pass, const Task& task, View<const float> q, View<float> out);
  void attend_by_rows(const Pass& pass, const Task& task, View<const float> q, Sums& sums) const;
  void attend_by_blocks(const Pass& pass, const Task& task, View<const float> q, Sums& sums) const;
  void cap(float* scores, std::size_t lines, std::size_t length, std::size_t stride) const;
  void merge(const Pass& pass, View<float> out);
  void observe(const Pass& pass, View<const float> q, const Threads& threads);
  void observe_page(const Segment& segment, const Lane& lane, std::size_t lane_index, std::size_t page,
                    View<const float> q);

  const Config& config_;
  int window_;     // tokens at the end of a prompt whose attention column::window collects
  bool observes_;  // is any column wanted that attention fills?
  std::size_t layer_ = 0;
  float scale_ = 0;  // of its queries
  std::vector<Task> tasks_;
  std::size_t work_ = 0;    // multiply-adds of a score and a sum for all of them
  Tensor<float> partials_;  // [partial][head] (head_dim sums of values, maximum, sum of weights)
  Tensor<float> maximum_;   // [token][head] largest score
  Tensor<float> sum_;       // [token][head] sum of e^(score - maximum)
  struct PageTask {
    std::size_t segment, lane, page;
  };
  std::vector<PageTask> page_tasks_;
  struct Observed {
    Slot mass, window, last;
  };
  Observed observed_;  // the columns of the pass's lanes
};

}  // namespace pith::inline nn
