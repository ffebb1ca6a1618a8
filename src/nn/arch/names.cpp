// SPDX-License-Identifier: MIT
#include "nn/arch/names.hpp"

#include <charconv>

namespace pith::inline nn {

namespace {

using enum Role;

constexpr TensorName hugging_face[] = {
    {"model.embed_tokens", roles<embedding>},
    {"model.norm", roles<final_norm>},
    {"lm_head", roles<head>},
    {"model.layers.{}.input_layernorm", roles<attention_norm>},
    {"model.layers.{}.self_attn.q_proj", roles<wq>},
    {"model.layers.{}.self_attn.k_proj", roles<wk>},
    {"model.layers.{}.self_attn.v_proj", roles<wv>},
    {"model.layers.{}.self_attn.o_proj", roles<wo>},
    {"model.layers.{}.self_attn.q_norm", roles<q_norm>},
    {"model.layers.{}.self_attn.k_norm", roles<k_norm>},
    {"model.layers.{}.self_attn.q_int", roles<drop_gate_q>},
    {"model.layers.{}.self_attn.k_int", roles<drop_gate_k>},
    {"model.layers.{}.self_attn.int_bias", roles<drop_gate_bias>},
    {"model.layers.{}.post_attention_layernorm", roles<mlp_norm>},
    {"model.layers.{}.post_feedforward_layernorm", roles<post_mlp_norm>},
    {"model.layers.{}.mlp.gate_proj", roles<mlp_gate>},
    {"model.layers.{}.mlp.up_proj", roles<mlp_up>},
    {"model.layers.{}.mlp.down_proj", roles<mlp_down>},
    {"model.layers.{}.mlp.gate", roles<router>},
    {"model.layers.{}.mlp.experts.{}.gate_proj", roles<expert_gate>},
    {"model.layers.{}.mlp.experts.{}.up_proj", roles<expert_up>},
    {"model.layers.{}.mlp.experts.{}.down_proj", roles<expert_down>},
};

constexpr TensorName gguf[] = {
    {"token_embd", roles<embedding>},
    {"position_embd", roles<positions>},
    {"output_norm", roles<final_norm>},
    {"output", roles<head>},
    {"blk.{}.attn_norm", roles<attention_norm>},
    {"blk.{}.attn_q", roles<wq>},
    {"blk.{}.attn_k", roles<wk>},
    {"blk.{}.attn_v", roles<wv>},
    {"blk.{}.attn_qkv", roles<wq, wk, wv>},
    {"blk.{}.attn_output", roles<wo>},
    {"blk.{}.attn_q_norm", roles<q_norm>},
    {"blk.{}.attn_k_norm", roles<k_norm>},
    {"blk.{}.attn_q_int", roles<drop_gate_q>},
    {"blk.{}.attn_k_int", roles<drop_gate_k>},
    {"blk.{}.attn_int_bias", roles<drop_gate_bias>},
    {"blk.{}.post_attention_norm", roles<post_attention_norm>},
    {"blk.{}.ffn_norm", roles<mlp_norm>},
    {"blk.{}.ffn_gate", roles<mlp_gate>},
    {"blk.{}.ffn_up", roles<mlp_up>},
    {"blk.{}.ffn_down", roles<mlp_down>},
    {"blk.{}.ffn_gate_inp", roles<router>},
    {"blk.{}.ffn_gate_exps", roles<expert_gate>},
    {"blk.{}.ffn_up_exps", roles<expert_up>},
    {"blk.{}.ffn_down_exps", roles<expert_down>},
    {"blk.{}.post_ffw_norm", roles<post_mlp_norm>},
};

constexpr std::string_view harmless[] = {
    "model.rotary_emb.inv_freq",  // the frequencies of rotary positions
    "model.layers.{}.self_attn.rotary_emb.inv_freq",
    "blk.{}.attn_rot_embd",
    "transformer.h.{}.attn.bias",  // GPT-2's causal mask
    "transformer.h.{}.attn.masked_bias",
};

}  // namespace

const std::span<const TensorName> hugging_face_names = hugging_face;
const std::span<const TensorName> gguf_names = gguf;

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
