// SPDX-License-Identifier: MIT
#include "nn/arch/names.hpp"

#include <array>
#include <charconv>
#include <vector>

namespace pith::inline nn {

namespace {

constexpr auto each_role = [] {
  std::array<Role, role_count> all{};
  for (std::size_t i = 0; i < role_count; ++i) all[i] = static_cast<Role>(i);
  return all;
}();

/// What the list of parameters says, as one kind of file spells it.
std::vector<TensorName> from_list(std::string_view TensorNames::*file) {
  Config config;
  config.layers = {{.experts = {.count = 1}}};  // that all have their turn
  std::vector<TensorName> out;
  const auto add = [&](const Parameter& p, const auto& /*kept*/) {
    if (p.suffix == ".bias" || (p.names.*file).empty()) return;
    out.push_back({p.names.*file, std::span(&each_role[static_cast<std::size_t>(p.role)], 1)});
  };
  const Weights none;
  const LayerWeights empty;
  for_each_slot_around(config, none, add, [&] { for_each_slot(config, 0, empty, add); });
  return out;
}

constexpr std::string_view harmless[] = {
    "model.rotary_emb.inv_freq",  // the frequencies of rotary positions
    "model.layers.{}.self_attn.rotary_emb.inv_freq",
    "blk.{}.attn_rot_embd",
    "transformer.h.{}.attn.bias",  // GPT-2's causal mask
    "transformer.h.{}.attn.masked_bias",
};

}  // namespace

std::span<const TensorName> hugging_face_names() {
  static const auto names = from_list(&TensorNames::hugging_face);
  return names;
}

std::span<const TensorName> gguf_names() {
  static const auto names = [] {
    auto all = from_list(&TensorNames::gguf);
    all.push_back({"blk.{}.attn_qkv", roles<Role::wq, Role::wk, Role::wv>});
    return all;
  }();
  return names;
}

std::string filled(std::string_view pattern, std::optional<std::size_t> layer, std::optional<std::size_t> expert) {
  std::string out;
  for (const auto& number : {layer, expert}) {
    const auto hole = pattern.find("{}");
    if (hole == std::string_view::npos || !number) break;
    out.append(pattern.substr(0, hole)).append(std::to_string(*number));
    pattern.remove_prefix(hole + 2);
  }
  return out.append(pattern);
}

bool names_expert(std::string_view pattern) { return pattern.find("{}") != pattern.rfind("{}"); }

bool follows(std::string_view name, std::string_view pattern, Numbers* numbers) {
  Numbers found;
  for (auto hole = pattern.find("{}"); hole != std::string_view::npos; hole = pattern.find("{}")) {
    if (!name.starts_with(pattern.substr(0, hole))) return false;
    std::size_t number = 0;
    const auto [end, error] = std::from_chars(name.data() + hole, name.data() + name.size(), number);
    if (error != std::errc()) return false;
    (found.layer ? found.expert : found.layer) = number;
    name.remove_prefix(static_cast<std::size_t>(end - name.data()));
    pattern.remove_prefix(hole + 2);
  }
  if (numbers != nullptr) *numbers = found;
  if (!name.starts_with(pattern)) return false;
  name.remove_prefix(pattern.size());
  return name.empty() || name == ".weight" || name == ".bias";
}

bool is_harmless(std::string_view name) {
  return std::ranges::any_of(harmless, [&](std::string_view pattern) { return follows(name, pattern); });
}

}  // namespace pith::inline nn
