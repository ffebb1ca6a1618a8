// SPDX-License-Identifier: MIT
#include "eviction.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace pith::reference {

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

}  // namespace

bool Streaming::sees(int /*layer*/, int /*kv_head*/, int n, int j) const { return j < sinks_ || n < j + recent_; }

Eviction::Eviction(const Config& config, EvictionRule rule, Visibility* before)
    : config_(config), rule_(std::move(rule)), before_(before), lanes_(at(config.n_layers()) * at(config.n_kv_heads)) {}

bool Eviction::sees(int layer, int kv_head, int n, int j) const {
  if (before_ != nullptr && !before_->sees(layer, kv_head, n, j)) return false;
  const auto& alive = lane(layer, kv_head).alive;
  return at(j) >= alive.size() || alive[at(j)] != 0;
}

void Eviction::attended(int layer, int n, const Rows& weights) {
  if (before_ != nullptr) before_->attended(layer, n, weights);
  for (int kv_head = 0; kv_head < config_.n_kv_heads; ++kv_head) {
    Lane& l = lane(layer, kv_head);
    l.alive.push_back(1);
    l.worth.push_back(0);
    observe(l, kv_head, n, weights);
    const bool acts = layer >= rule_.first_layer && layer < rule_.last_layer &&
                      (rule_.heads.empty() || std::ranges::find(rule_.heads, kv_head) != rule_.heads.end());
    const Prompt* const prompt = prompt_of(n);
    if (!acts || (rule_.score == Score::window && (prompt == nullptr || n + 1 != prompt->end))) continue;
    // What the query attended to and nobody has evicted since: a softmax is positive wherever it sees.
    std::vector<int> live;
    for (int j = 0; j <= n; ++j)
      if (weights[at(kv_head * config_.group())][at(j)] > 0 && sees(layer, kv_head, n + 1, j)) live.push_back(j);
    cut(l, live, n);
  }
}

const Prompt* Eviction::prompt_of(int n) const {
  const auto found =
      std::ranges::find_if(rule_.prompts, [n](const Prompt& prompt) { return prompt.begin <= n && n < prompt.end; });
  return found == rule_.prompts.end() ? nullptr : &*found;
}

void Eviction::observe(Lane& l, int kv_head, int n, const Rows& weights) {
  const int group = config_.group();
  const int first = rule_.lanes == Lanes::shared ? 0 : kv_head * group;
  const int last = rule_.lanes == Lanes::shared ? config_.n_heads : first + group;
  if (rule_.score == Score::window) {
    const Prompt* const prompt = prompt_of(n);
    const int window_begin = prompt == nullptr ? 0 : std::max(prompt->begin, prompt->end - rule_.recent);
    if (prompt == nullptr || n < window_begin) return;
    if (n == window_begin) std::ranges::fill(l.worth, 0.0);
  }
  if (rule_.score == Score::latest || rule_.score == Score::often) return count(l, first, last, n, weights);
  if (rule_.score == Score::last) std::ranges::fill(l.worth, 0.0);
  for (int h = first; h < last; ++h)
    for (int j = 0; j <= n; ++j) l.worth[at(j)] += weights[at(h)][at(j)];
}

void Eviction::count(Lane& l, int first, int last, int n, const Rows& weights) {
  l.worth[at(n)] = rule_.score == Score::often ? 1 : n;
  int seen = 0;
  for (int j = 0; j <= n; ++j) seen += weights[at(first)][at(j)] > 0 ? 1 : 0;
  for (int j = 0; j < n; ++j) {
    double given = 0;  // as a part of what is even
    for (int h = first; h < last; ++h) given += weights[at(h)][at(j)] * seen / (last - first);
    if (given == 0) continue;
    min_margin_ = std::min(min_margin_, std::abs(given - 1));
    if (given < 1) continue;
    if (rule_.score == Score::often)
      l.worth[at(j)] += 1;
    else
      l.worth[at(j)] = n;
  }
}

std::vector<double> Eviction::pooled(const Lane& l, const std::vector<int>& tokens) const {
  const int half = rule_.pool / 2, count = static_cast<int>(tokens.size());
  std::vector<double> out;
  for (int i = 0; i < count; ++i) {
    double best = 0;
    for (int near = std::max(0, i - half); near <= std::min(count - 1, i + half); ++near)
      best = std::max(best, l.worth[at(tokens[at(near)])]);
    out.push_back(best);
  }
  return out;
}

void Eviction::cut(Lane& l, const std::vector<int>& live, int n) {
  std::vector<int> before;  // the latest ones, which are spared and lend their worth to nobody
  std::ranges::copy_if(live, std::back_inserter(before), [&](int j) { return j + rule_.recent <= n; });
  const auto worth = pooled(l, before);

  struct Judged {
    double worth;
    int token;
  };
  std::vector<Judged> judged;
  for (std::size_t i = 0; i < before.size(); ++i) judged.push_back({worth[i], before[i]});
  std::ranges::sort(judged, [](const Judged& a, const Judged& b) {
    return a.worth != b.worth ? a.worth < b.worth : a.token < b.token;
  });
  const std::size_t rows = at(rule_.rows);
  const std::size_t victims = std::min(judged.size(), live.size() > rows ? live.size() - rows : 0);
  for (std::size_t i = 0; i < victims; ++i) l.alive[at(judged[i].token)] = 0;
  if (victims > 0 && victims < judged.size()) {
    const double gone = judged[victims - 1].worth, stayed = judged[victims].worth;
    // Neighbours that share one maximum are equal in any precision.
    if (gone != stayed) min_margin_ = std::min(min_margin_, (stayed - gone) / stayed);
  }
}

}  // namespace pith::reference
