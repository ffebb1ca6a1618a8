// SPDX-License-Identifier: MIT
// Granite 3: Llama's layers with multipliers of the embedding, of what a half adds, of scores and of logits.
#include "nn/arch/common.hpp"

namespace pith::inline nn {

namespace {

void read(const Keys& keys, Config& c) {
  LayerPlan plan = read_llama_plan(keys);
  plan.query_scale = static_cast<float>(keys.positive_or("attention_multiplier", 1));
  read_sizes(keys, {.context = 2048}, plan, c);
  c.embedding_scale = static_cast<float>(keys.positive_or("embedding_multiplier", 1));
  c.residual_scale = static_cast<float>(keys.positive_or("residual_multiplier", 1));
  c.logit_scale = static_cast<float>(1 / keys.positive_or("logits_scaling", 1));
  read_rope(keys, c);
}

void read_gguf(const GgufKeys& keys, Config& c) {
  LayerPlan plan = with_gguf_biases(keys, {});
  plan.query_scale = keys.nonzero_or("attention.scale", 0);
  read_gguf_sizes(keys, rms_epsilon, plan, c);
  c.embedding_scale = keys.nonzero_or("embedding_scale", 1);
  c.residual_scale = keys.nonzero_or("residual_scale", 1);
  c.logit_scale = 1 / keys.nonzero_or("logit_scale", 1);  // a divisor there
  read_gguf_rope(keys, c);
  if (!keys.flag_or("rope.scaling.finetuned", true))  // what this key means to ggml, of Granite alone
    unsupported(keys.where("rope.scaling.finetuned"), "true", "false: a model without RoPE");
}

void write_gguf(const Config& c, GgufKeysOut& out) {
  write_gguf_sizes(c, rms_epsilon, out);
  if (c.layers.front().query_scale != 0) out.add("attention.scale", c.layers.front().query_scale);
  out.add("embedding_scale", c.embedding_scale);
  out.add("residual_scale", c.residual_scale);
  out.add("logit_scale", 1 / c.logit_scale);
  write_gguf_rope(c, out);
}

}  // namespace

extern const Family granite;
constinit const Family granite = {.architecture = Architecture::granite,
                                  .model_type = "granite",
                                  .gguf = "granite",
                                  .prefix = "model.",
                                  .read = read,
                                  .read_gguf = read_gguf,
                                  .write_gguf = write_gguf,
                                  .gguf_pairs = RopePairs::adjacent};

}  // namespace pith::inline nn
