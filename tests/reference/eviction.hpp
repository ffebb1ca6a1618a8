// SPDX-License-Identifier: MIT
// Policies at their papers' own pace, token by token, on whole rows of attention: who is still seen.
#pragma once

#include <limits>
#include <vector>

#include "decoder.hpp"

namespace pith::reference {

/// StreamingLLM (arXiv 2309.17453): the first tokens and the latest ones.
class Streaming : public Visibility {
 public:
  Streaming(int sinks, int recent) : sinks_(sinks), recent_(recent) {}
  bool sees(int layer, int kv_head, int n, int j) const override;

 private:
  int sinks_, recent_;
};

enum class Score {
  mass,    // attention received so far: H2O (arXiv 2306.14048)
  last,    // attention of the latest query: TOVA (arXiv 2401.06104)
  window,  // attention of the prompt's last queries, the maximum over neighbours: SnapKV (arXiv 2404.14469)
  latest,  // the latest query that gave it at least its even share of attention: LRA (arXiv 2401.04881)
  often,   // how many queries did, its own among them: LFA
};

enum class Lanes {
  per_head,  // every kv-head forgets for itself
  shared,    // the kv-heads of a layer forget together
};

/// The tokens [begin, end), given together.
struct Prompt {
  int begin = 0, end = 0;
};

struct EvictionRule {
  Score score = Score::mass;
  Lanes lanes = Lanes::per_head;
  int rows = 0;    // how many stay after a query, unless more are spared
  int recent = 0;  // the latest tokens are spared; Score::window: so many queries of a prompt are observed, too
  int pool = 1;    // Score::window: over so many neighbours the maximum is taken
  std::vector<Prompt> prompts = {};  // Score::window: acts after the last query of each of these, and of no other
  int first_layer = 0, last_layer = std::numeric_limits<int>::max();  // acts in [first, last)
  std::vector<int> heads = {};                                        // acts on these kv-heads; empty: on all
};

/// After each query the tokens of least worth are evicted; of equals, the earliest. The next query is the first not to
/// see them. What is already forgotten, by the model or by another that acts before, is not there to be judged.
class Eviction : public Visibility {
 public:
  Eviction(const Config& config, EvictionRule rule, Visibility* before = nullptr);
  bool sees(int layer, int kv_head, int n, int j) const override;
  void attended(int layer, int n, const Rows& weights) override;

  /// The smallest difference of worth, relative to the larger, between a token that stayed and one that had to go; or
  /// of attention from its even share.
  double min_margin() const { return min_margin_; }

 private:
  struct Lane {
    std::vector<char> alive;    // [token]
    std::vector<double> worth;  // [token]
  };
  const Prompt* prompt_of(int n) const;
  void observe(Lane& lane, int kv_head, int n, const Rows& weights);
  void count(Lane& lane, int first_head, int last_head, int n, const Rows& weights);
  std::vector<double> pooled(const Lane& lane, const std::vector<int>& tokens) const;
  void cut(Lane& lane, const std::vector<int>& live, int n);
  Lane& lane(int layer, int kv_head) { return lanes_[static_cast<std::size_t>(layer * config_.n_kv_heads + kv_head)]; }
  const Lane& lane(int layer, int kv_head) const {
    return lanes_[static_cast<std::size_t>(layer * config_.n_kv_heads + kv_head)];
  }

  Config config_;
  EvictionRule rule_;
  Visibility* before_;
  std::vector<Lane> lanes_;  // [layer * n_kv_heads + kv_head]
  double min_margin_ = std::numeric_limits<double>::infinity();
};

}  // namespace pith::reference
