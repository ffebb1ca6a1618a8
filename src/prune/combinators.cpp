// SPDX-License-Identifier: MIT
#include "pith/prune/combinators.hpp"

#include <algorithm>

#include "pith/error.hpp"
#include "pith/prune/spelling.hpp"

namespace pith::prune {

Needs Chain::needs() const {
  Needs all;
  for (const AnyPolicy& policy : policies) all = all | policy.needs();
  return all;
}

void Chain::before_attention(const KvLayer& layer, const Moment& moment) const {
  for (const AnyPolicy& policy : policies) policy.before_attention(layer, moment);
}

void Chain::after_attention(const KvLayer& layer, const Moment& moment) const {
  for (const AnyPolicy& policy : policies) policy.after_attention(layer, moment);
}

bool Chain::narrows_after(std::size_t layer, std::size_t n_layers) const {
  return std::ranges::any_of(policies, [&](const AnyPolicy& policy) { return policy.narrows_after(layer, n_layers); });
}

void Chain::narrow(const KvLayer& layer, const Moment& moment, std::vector<Position>& stay) const {
  for (const AnyPolicy& policy : policies)
    if (policy.narrows_after(layer.layer(), moment.n_layers)) policy.narrow(layer, moment, stay);
}

void Chain::after_pass(std::span<const LayerMoment> layers) const {
  for (const AnyPolicy& policy : policies) policy.after_pass(layers);
}

std::string Chain::describe() const {
  std::string text;
  for (const AnyPolicy& policy : policies) text.append(text.empty() ? "" : ",").append(policy.describe());
  return text;
}

void OnPrefill::before_attention(const KvLayer& layer, const Moment& moment) const {
  if (moment.reads_prompt()) policy.before_attention(layer, moment);
}

void OnPrefill::after_attention(const KvLayer& layer, const Moment& moment) const {
  if (moment.ends_prompt()) policy.after_attention(layer, moment);
}

void OnPrefill::after_pass(std::span<const LayerMoment> layers) const {
  if (layers.front().moment.ends_prompt()) policy.after_pass(layers);
}

std::string OnPrefill::describe() const { return spell("on_prefill", {}, policy.describe()); }

Needs PerHead::needs() const { return policy.needs() | Needs{.lane_per_head = true}; }

std::string PerHead::describe() const { return spell("per_head", {}, policy.describe()); }

Needs ForLayers::needs() const { return policy.needs() | Needs{.layers = last}; }

void ForLayers::before_attention(const KvLayer& layer, const Moment& moment) const {
  if (acts(layer)) policy.before_attention(layer, moment);
}

void ForLayers::after_attention(const KvLayer& layer, const Moment& moment) const {
  if (acts(layer)) policy.after_attention(layer, moment);
}

void ForLayers::after_pass(std::span<const LayerMoment> layers) const {
  const auto begin = std::ranges::find_if(layers, [&](const LayerMoment& one) { return acts(one.layer); });
  const auto end = std::find_if_not(begin, layers.end(), [&](const LayerMoment& one) { return acts(one.layer); });
  policy.after_pass({begin, end});
}

std::string ForLayers::describe() const {
  const std::string begin = std::to_string(first), end = std::to_string(last - 1);
  return spell("for_layers", {{"layers", first + 1 == last ? begin : begin + "-" + end}}, policy.describe());
}

Needs ForHeads::needs() const {
  Needs own{.lane_per_head = true, .layers = everywhere ? 0 : heads.size()};
  for (const auto& list : heads)
    if (!list.empty()) own.kv_heads = std::max(own.kv_heads, list.back() + 1);
  return policy.needs() | own;
}

std::optional<KvLayer> ForHeads::listed(const KvLayer& layer, std::vector<std::size_t>& both) const {
  if (!everywhere && layer.layer() >= heads.size()) return std::nullopt;
  const std::span<const std::size_t> list = heads[everywhere ? 0 : layer.layer()];
  const auto lanes = layer.lanes();
  if (list.empty()) return std::nullopt;
  if (lanes.size() > list.back() && lanes.number(list.back()) == list.back()) return layer.only(list);
  for (std::size_t i = 0; i < lanes.size(); ++i)
    if (std::ranges::binary_search(list, lanes.number(i))) both.push_back(lanes.number(i));
  return both.empty() ? std::nullopt : std::optional(layer.only(both));
}

void ForHeads::before_attention(const KvLayer& layer, const Moment& moment) const {
  std::vector<std::size_t> both;
  if (const auto some = listed(layer, both)) policy.before_attention(*some, moment);
}

void ForHeads::after_attention(const KvLayer& layer, const Moment& moment) const {
  std::vector<std::size_t> both;
  if (const auto some = listed(layer, both)) policy.after_attention(*some, moment);
}

void ForHeads::after_pass(std::span<const LayerMoment> layers) const {
  std::vector<std::vector<std::size_t>> both(layers.size());
  std::vector<LayerMoment> all;
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (const auto some = listed(layers[i].layer, both[i])) all.push_back({*some, layers[i].moment});
  policy.after_pass(all);
}

std::string ForHeads::describe() const {
  std::string list;
  for (std::size_t layer = 0; layer < heads.size(); ++layer)
    for (const std::size_t head : heads[layer])
      list.append(list.empty() ? "" : "+")
          .append(everywhere ? "" : std::to_string(layer) + ".")
          .append(std::to_string(head));
  return spell("for_heads", {{"heads", list}}, policy.describe());
}

AnyPolicy chain(std::vector<AnyPolicy> policies) {
  std::erase_if(policies, [](const AnyPolicy& policy) { return !policy; });
  if (policies.size() > 1) return Chain{std::move(policies)};
  return policies.empty() ? AnyPolicy() : policies.front();
}

AnyPolicy on_prefill(AnyPolicy policy) { return OnPrefill{std::move(policy)}; }

AnyPolicy per_head(AnyPolicy policy) { return PerHead{std::move(policy)}; }

AnyPolicy for_layers(std::size_t first, std::size_t last, AnyPolicy policy) {
  if (first >= last)
    fail(ErrorCode::argument, "for_layers", "a first layer before the last",
         std::to_string(first) + " to " + std::to_string(last));
  return ForLayers{std::move(policy), first, last};
}

namespace {

AnyPolicy of_heads(AnyPolicy policy, bool everywhere, std::vector<std::vector<std::size_t>> heads) {
  for (auto& list : heads) {
    std::ranges::sort(list);
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
  while (!heads.empty() && heads.back().empty()) heads.pop_back();
  if (heads.empty()) fail(ErrorCode::argument, "for_heads", "at least one head", "none");
  return ForHeads{std::move(policy), everywhere, std::move(heads)};
}

}  // namespace

AnyPolicy for_heads(std::vector<std::size_t> heads, AnyPolicy policy) {
  return of_heads(std::move(policy), true, {std::move(heads)});
}

AnyPolicy for_heads(std::span<const std::vector<std::size_t>> by_layer, AnyPolicy policy) {
  return of_heads(std::move(policy), false, {by_layer.begin(), by_layer.end()});
}

}  // namespace pith::prune
