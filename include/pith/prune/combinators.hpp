// SPDX-License-Identifier: MIT
// Policies made of policies: one after another, at the end of a prompt only, in some layers, in some heads.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

#include "pith/prune/policy.hpp"

namespace pith::prune {

template <class P>
void before(const P& policy, const KvLayer& layer, const Moment& moment) {
  if constexpr (ActsBefore<P>) policy.before_attention(layer, moment);
}
template <class P>
void after(const P& policy, const KvLayer& layer, const Moment& moment) {
  if constexpr (ActsAfter<P>) policy.after_attention(layer, moment);
}

/// Each in turn, on what the ones before it have left.
template <class... P>
struct Chain {
  std::tuple<P...> policies;

  Needs needs() const {
    return std::apply([](const P&... p) { return (Needs{} | ... | p.needs()); }, policies);
  }
  void before_attention(const KvLayer& layer, const Moment& moment) const {
    std::apply([&](const P&... p) { (before(p, layer, moment), ...); }, policies);
  }
  void after_attention(const KvLayer& layer, const Moment& moment) const {
    std::apply([&](const P&... p) { (after(p, layer, moment), ...); }, policies);
  }
};

/// Acts in the pass that ends a prompt, and in no other.
template <class P>
struct OnPrefill {
  P policy;

  Needs needs() const { return policy.needs(); }
  void before_attention(const KvLayer& layer, const Moment& moment) const {
    if (moment.ends_prompt()) before(policy, layer, moment);
  }
  void after_attention(const KvLayer& layer, const Moment& moment) const {
    if (moment.ends_prompt()) after(policy, layer, moment);
  }
};

/// Acts in the layers [first, last).
template <class P>
struct ForLayers {
  P policy;
  std::size_t first = 0, last = 0;

  Needs needs() const { return policy.needs(); }
  void before_attention(const KvLayer& layer, const Moment& moment) const {
    if (acts(layer)) before(policy, layer, moment);
  }
  void after_attention(const KvLayer& layer, const Moment& moment) const {
    if (acts(layer)) after(policy, layer, moment);
  }

 private:
  bool acts(const KvLayer& layer) const { return first <= layer.layer() && layer.layer() < last; }
};

/// Acts on the given kv-heads of every layer, each for itself; the other heads keep everything.
template <class P>
struct ForHeads {
  P policy;
  std::vector<std::size_t> heads;

  Needs needs() const {
    Needs all = policy.needs();
    all.lane_per_head = true;
    return all;
  }
  void before_attention(const KvLayer& layer, const Moment& moment) const {
    for (const std::size_t head : heads)
      if (head < layer.lanes().size()) before(policy, layer.lane(head), moment);
  }
  void after_attention(const KvLayer& layer, const Moment& moment) const {
    for (const std::size_t head : heads)
      if (head < layer.lanes().size()) after(policy, layer.lane(head), moment);
  }
};

/// Every kv-head has a lane of its own and forgets for itself.
template <class P>
struct PerHead {
  P policy;

  Needs needs() const {
    Needs all = policy.needs();
    all.lane_per_head = true;
    return all;
  }
  void before_attention(const KvLayer& layer, const Moment& moment) const { before(policy, layer, moment); }
  void after_attention(const KvLayer& layer, const Moment& moment) const { after(policy, layer, moment); }
};

template <Policy... P>
Chain<P...> chain(P... policies) {
  return {{std::move(policies)...}};
}

template <Policy P>
OnPrefill<P> on_prefill(P policy) {
  return {std::move(policy)};
}

template <Policy P>
PerHead<P> per_head(P policy) {
  return {std::move(policy)};
}

template <Policy P>
ForLayers<P> for_layers(std::size_t first, std::size_t last, P policy) {
  return {std::move(policy), first, last};
}

template <Policy P>
ForHeads<P> for_heads(std::vector<std::size_t> heads, P policy) {
  return {std::move(policy), std::move(heads)};
}

}  // namespace pith::prune
