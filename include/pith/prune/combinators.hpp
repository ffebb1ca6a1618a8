// SPDX-License-Identifier: MIT
// Policies made of policies: one after another, at the end of a prompt only, in some layers, in some heads.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pith/api.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// Each in turn, on what the ones before it have left.
struct PITH_API Chain {
  std::vector<AnyPolicy> policies;

  Needs needs() const;
  void before_attention(const KvLayer& layer, const Moment& moment) const;
  void after_attention(const KvLayer& layer, const Moment& moment) const;
  bool narrows_after(std::size_t layer, std::size_t n_layers) const;
  void narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const;
  void after_pass(std::span<const LayerMoment> layers) const;
  std::string describe() const;
};

/// Acts on prompts, and not in decoding: closes rows in all passes of a prompt, judges in the one that ends it.
struct PITH_API OnPrefill {
  AnyPolicy policy;

  Needs needs() const { return policy.needs(); }
  void before_attention(const KvLayer& layer, const Moment& moment) const;
  void after_attention(const KvLayer& layer, const Moment& moment) const;
  bool narrows_after(std::size_t layer, std::size_t n_layers) const { return policy.narrows_after(layer, n_layers); }
  void narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const {
    policy.narrow(layer, moment, stay);
  }
  void after_pass(std::span<const LayerMoment> layers) const;
  std::string describe() const;
};

/// Every kv-head has a lane of its own and forgets for itself.
struct PITH_API PerHead {
  AnyPolicy policy;

  Needs needs() const;
  void before_attention(const KvLayer& layer, const Moment& moment) const { policy.before_attention(layer, moment); }
  void after_attention(const KvLayer& layer, const Moment& moment) const { policy.after_attention(layer, moment); }
  bool narrows_after(std::size_t layer, std::size_t n_layers) const { return policy.narrows_after(layer, n_layers); }
  void narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const {
    policy.narrow(layer, moment, stay);
  }
  void after_pass(std::span<const LayerMoment> layers) const { policy.after_pass(layers); }
  std::string describe() const;
};

/// Acts in the layers [first, last). Tokens leave a prompt between two of them only if they are the model's last.
struct PITH_API ForLayers {
  AnyPolicy policy;
  std::size_t first = 0, last = 0;

  Needs needs() const;
  void before_attention(const KvLayer& layer, const Moment& moment) const;
  void after_attention(const KvLayer& layer, const Moment& moment) const;
  bool narrows_after(std::size_t layer, std::size_t n_layers) const {
    return first <= layer && n_layers <= last && policy.narrows_after(layer, n_layers);
  }
  void narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const {
    policy.narrow(layer, moment, stay);
  }
  void after_pass(std::span<const LayerMoment> layers) const;
  std::string describe() const;

 private:
  bool acts(const KvLayer& layer) const { return first <= layer.layer() && layer.layer() < last; }
};

/// Acts on the listed kv-heads of a layer together, each in a lane of its own; the other heads keep everything, and so
/// no token leaves a prompt between layers.
struct PITH_API ForHeads {
  AnyPolicy policy;
  bool everywhere = true;  // heads[0] is the list of every layer; else heads[layer] is that layer's
  std::vector<std::vector<std::size_t>> heads;  // ascending; layers beyond the last list have none

  Needs needs() const;
  void before_attention(const KvLayer& layer, const Moment& moment) const;
  void after_attention(const KvLayer& layer, const Moment& moment) const;
  void after_pass(std::span<const LayerMoment> layers) const;
  std::string describe() const;

 private:
  /// A layer with the lanes alone that are listed and that it has; `both`: holds their list where others have chosen
  /// before.
  std::optional<KvLayer> listed(const KvLayer& layer, std::vector<std::size_t>& both) const;
};

/// Those that forget nothing are left out.
PITH_API AnyPolicy chain(std::vector<AnyPolicy> policies);

template <class... P>
requires(sizeof...(P) > 0 && (std::constructible_from<AnyPolicy, P> && ...)) AnyPolicy chain(P... policies) {
  return chain(std::vector<AnyPolicy>{AnyPolicy(std::move(policies))...});
}

PITH_API AnyPolicy on_prefill(AnyPolicy policy);
PITH_API AnyPolicy per_head(AnyPolicy policy);

/// Throws Error (argument) unless first < last.
PITH_API AnyPolicy for_layers(std::size_t first, std::size_t last, AnyPolicy policy);

/// The same kv-heads in every layer. Throws Error (argument) for an empty list.
PITH_API AnyPolicy for_heads(std::vector<std::size_t> heads, AnyPolicy policy);

/// A list for each layer: by_layer[layer], the last layers' may be left out. Throws Error (argument) where all are
/// empty.
PITH_API AnyPolicy for_heads(std::span<const std::vector<std::size_t>> by_layer, AnyPolicy policy);

/// A policy that has a name of its own, though it is made of parts.
struct Method {
  std::string spelling;
  AnyPolicy policy;

  Needs needs() const { return policy.needs(); }
  void before_attention(const KvLayer& layer, const Moment& moment) const { policy.before_attention(layer, moment); }
  void after_attention(const KvLayer& layer, const Moment& moment) const { policy.after_attention(layer, moment); }
  bool narrows_after(std::size_t layer, std::size_t n_layers) const { return policy.narrows_after(layer, n_layers); }
  void narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const {
    policy.narrow(layer, moment, stay);
  }
  void after_pass(std::span<const LayerMoment> layers) const { policy.after_pass(layers); }
  std::string describe() const { return spelling; }
};

}  // namespace pith::prune
