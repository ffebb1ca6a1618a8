// SPDX-License-Identifier: MIT
// What the files of all families say in the same way, and who reads the rest.
#include "nn/arch/config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "nn/arch/common.hpp"
#include "nn/arch/family.hpp"
#include "pith/error.hpp"
#include "printable.hpp"

namespace pith::inline nn {

namespace {

/// Ids beyond the vocabulary, which real files have for "none", can be neither fed nor sampled.
bool is_token(const Config& c, std::int64_t id) { return id >= 0 && id < c.vocab_size; }

void add_end_token(Config& c, std::int64_t id) {
  if (!is_token(c, id)) return;
  const auto token = static_cast<std::int32_t>(id);
  if (std::ranges::find(c.end_tokens, token) == c.end_tokens.end()) c.end_tokens.push_back(token);
}

void read_special_tokens(const Keys& keys, Config& c) {
  const auto bos = keys.tokens("bos_token_id");
  if (!c.bos && !bos.empty() && is_token(c, bos.front())) c.bos = static_cast<std::int32_t>(bos.front());
  for (const std::int64_t id : keys.tokens("eos_token_id")) add_end_token(c, id);
}

const Family& family_named(std::string_view Family::*name, std::string_view found, std::string_view where) {
  const auto families = nn::families();
  const auto family = std::ranges::find_if(families, [&](const Family* one) { return one->*name == found; });
  if (family == families.end()) unsupported(where, known(name), in_quotes(found));
  return **family;
}

void refuse_quantisation(const Keys& keys) {
  const nlohmann::json* found = keys.find("quantization_config");
  if (found == nullptr) return;
  const Keys quantisation(*found, keys.where("quantization_config"));
  unsupported(
      keys.where("quantization_config"), "weights in F32, F16 or BF16",
      quantisation.find("quant_method") == nullptr ? "quantised ones" : in_quotes(quantisation.text("quant_method")));
}

/// DMS checkpoints call themselves by the name of the model that they were; the keys are those of their authors' code
/// (Lancucki et al., arXiv 2506.05345), whose other ways to decide are refused.
std::optional<DmsConfig> read_dms(const Keys& keys) {
  const char* const scale = "dms_alpha_scale";
  const char* const offset = "dms_initial_alpha_offset";
  const char* const window = "dms_window_size";
  if (std::ranges::none_of(std::array{scale, offset, window}, [&](const char* key) { return keys.find(key); }))
    return std::nullopt;
  for (const char* other : {"dms_separate_alpha", "dms_disable_eviction"}) keys.refuse_unless(other, false);
  const std::string per = keys.text_or("dms_alpha_per", "head");
  if (per != "head") unsupported(keys.where("dms_alpha_per"), in_quotes("head"), in_quotes(per));
  DmsConfig dms;
  dms.scale = static_cast<float>(keys.number_or(scale, static_cast<double>(dms.scale)));
  dms.offset = static_cast<float>(keys.number_or(offset, static_cast<double>(dms.offset)));
  dms.window = keys.count_or(window, most_positions, dms.window, 0);
  return dms;
}

int read_gguf_vocabulary(const gguf::File& file, const GgufKeys& keys) {
  const std::string& where = file.where;
  if (file.tensors.empty()) unsupported(where, "the tensors of a model", "none: a vocabulary only");
  const std::string name = "token_embd.weight";
  const gguf::Tensor* embedding = keys.tensor(Role::embedding, ".weight");
  if (embedding == nullptr) fail(ErrorCode::model, where, "tensor " + in_quotes(name), "no such tensor");
  const auto& shape = embedding->shape;
  if (shape.size() != 2 || shape[0] > most_tokens)
    fail(ErrorCode::model, where + ": tensor " + in_quotes(name),
         "[tokens, features] with at most " + std::to_string(most_tokens) + " tokens",
         std::to_string(shape.size()) + " dimensions, the first of " +
             (shape.empty() ? "none" : std::to_string(shape[0])));
  return static_cast<int>(shape[0]);
}

/// The config that a GGUF with these keys, and the tensors of this one, would be read as.
Config read_back(const Config& config, const Family& family, const GgufKeysOut& out) {
  gguf::File file = out.written();
  Weights none;
  none.layers.resize(config.layers.size());
  const auto add = [&](const Parameter& p, const auto& /*kept*/) {
    file.tensors.emplace_back().name = filled(gguf_spelling(family, p.role).pattern, p);
  };
  for_each_parameter(config, std::as_const(none), add);
  for (const RopeTensor& tensor : gguf_rope_tensors(config)) file.tensors.emplace_back().name = tensor.name;

  Config c;
  c.architecture = config.architecture;
  c.vocab_size = config.vocab_size;
  family.read_gguf(GgufKeys(file, family.gguf), c);
  for (const RopeTensor& tensor : gguf_rope_tensors(config))
    (tensor.name == rope_long ? c.ropes.front().long_divisors : c.ropes.front().divisors) = tensor.divisors;
  return c;
}

std::string text(bool flag) { return flag ? "yes" : "no"; }
std::string text(Activation activation) { return std::string(name(activation)); }
template <class T>
std::string text(T number) {
  if constexpr (std::is_enum_v<T>) {
    return "kind " + std::to_string(static_cast<int>(number));
  } else {
    return std::to_string(number);
  }
}

bool close(float a, float b) { return std::abs(a - b) <= 1e-6f * std::max(std::abs(a), std::abs(b)); }
bool close(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) { return close(x, y); });
}

/// Refuses a model of which a GGUF of its architecture would say something else.
void require_same(const Config& said, const Config& config, const GgufKeysOut& out) {
  const auto same = [&](const std::string& what, auto there, auto here) {
    if constexpr (std::is_same_v<decltype(here), float>) {
      if (!close(there, here)) out.refuse(what, text(there), text(here));
    } else {
      if (there != here) out.refuse(what, text(there), text(here));
    }
  };
  // 1 + weight is written out.
  const auto norm = [](Norm kind) { return kind == Norm::rms_plus_one ? Norm::rms : kind; };
  // One as long as the context hides nothing.
  const auto window = [&](const LayerPlan& plan) { return plan.window < config.context ? plan.window : 0; };
  const auto scale = [&](const LayerPlan& plan) {
    return plan.query_scale != 0 ? plan.query_scale : 1 / std::sqrt(static_cast<float>(config.head_dim));
  };

  same("number of RoPEs", said.ropes.size(), config.ropes.size());
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const LayerPlan &there = said.layers[i], &here = config.layers[i];
    const std::string layer = "layer " + std::to_string(i) + ": ";
    same(layer + "norm", norm(there.norm), norm(here.norm));
    same(layer + "norms before attention and MLP", there.pre_norms, here.pre_norms);
    same(layer + "norms after attention and MLP", there.post_norms, here.post_norms);
    same(layer + "norm of queries and keys", there.qk_norm, here.qk_norm);
    same(layer + "biases of q, k and v", there.qkv_bias, here.qkv_bias);
    same(layer + "bias of attention's output", there.o_bias, here.o_bias);
    same(layer + "biases of the MLP", there.mlp_bias, here.mlp_bias);
    same(layer + "MLP", there.mlp, here.mlp);
    same(layer + "activation", there.activation, here.activation);
    same(layer + "RoPE", there.rope, here.rope);
    same(layer + "sliding window", window(there), window(here));
    same(layer + "layer whose keys and values it reads", there.kv_from, here.kv_from);
    same(layer + "scale of attention's scores", scale(there), scale(here));
    same(layer + "cap of attention's scores", there.score_cap, here.score_cap);
    same(layer + "width of the MLP", said.d_ff_of(there), config.d_ff_of(here));
    same(layer + "experts", there.experts.count, here.experts.count);
    same(layer + "experts chosen", there.experts.chosen, here.experts.chosen);
    same(layer + "weights of experts that sum to 1", there.experts.renormalised, here.experts.renormalised);
  }
  for (std::size_t i = 0; i < config.ropes.size(); ++i) {
    const RopeConfig &there = said.ropes[i], &here = config.ropes[i];
    const std::string rope = "RoPE " + std::to_string(i) + ": ";
    same(rope + "theta", there.theta, here.theta);
    same(rope + "numbers of a head that turn", said.dim_of(there), config.dim_of(here));
    same(rope + "attention factor", there.magnitude, here.magnitude);
    same(rope + "original context", there.original_context, here.original_context);
    same(rope + "same scaling", close(there.divisors, here.divisors), true);
    same(rope + "same scaling of long contexts", close(there.long_divisors, here.long_divisors), true);
  }
  same("norm after the last layer", norm(said.final_norm), norm(config.final_norm));
  same("head tied to the embedding", said.tied_head, config.tied_head);
  same("learned positions", said.learned_positions, config.learned_positions);
  same("scale of the embedding", said.embedding_scale, config.embedding_scale);
  same("scale of the residual", said.residual_scale, config.residual_scale);
  same("scale of the logits", said.logit_scale, config.logit_scale);
  same("cap of the logits", said.logit_cap, config.logit_cap);
  same("decisions that DMS taught", said.dms.has_value(), config.dms.has_value());
}

}  // namespace

Config read_config(const nlohmann::json& config, std::string_view where) {
  const Keys whole(config, where);
  const nlohmann::json* text = whole.find(text_config);
  const Keys keys = text == nullptr ? whole : Keys(*text, whole.where(text_config));
  const Family& family = family_named(&Family::model_type, keys.text("model_type"), keys.where("model_type"));
  refuse_quantisation(whole);
  Config c;
  c.architecture = family.architecture;
  c.vocab_size = family.vocabulary > 0 ? keys.count_or("vocab_size", most_tokens, family.vocabulary)
                                       : keys.count("vocab_size", most_tokens);
  family.read(keys, c);
  c.dms = read_dms(whole);
  read_special_tokens(whole, c);
  if (text != nullptr) read_special_tokens(keys, c);
  return c;
}

void read_generation_config(const nlohmann::json& generation, std::string_view where, Config& config) {
  read_special_tokens(Keys(generation, where), config);
}

Config read_config(const gguf::File& file) {
  const auto architecture = file.get<std::string>("general.architecture");
  const Family& family = family_named(&Family::gguf, architecture, file.where + ": key \"general.architecture\"");
  const GgufKeys keys(file, architecture);
  Config c;
  c.architecture = family.architecture;
  c.vocab_size = read_gguf_vocabulary(file, keys);
  c.rope_pairs = family.gguf_pairs;
  family.read_gguf(keys, c);

  const auto bos = file.get_or<std::int64_t>("tokenizer.ggml.bos_token_id", -1);
  if (is_token(c, bos)) c.bos = static_cast<std::int32_t>(bos);
  for (const char* end : {"eos", "eot", "eom"})
    add_end_token(c, file.get_or<std::int64_t>("tokenizer.ggml." + std::string(end) + "_token_id", -1));
  return c;
}

void write_config(const Config& config, gguf::Writer& writer, std::string_view where) {
  const Family& family = family_of(config.architecture);
  writer.add("general.architecture", family.gguf);
  GgufKeysOut out(writer, family.gguf, where);
  family.write_gguf(config, out);
  require_same(read_back(config, family, out), config, out);
}

DropGateConfig read_drop_gate(const nlohmann::json& gate, std::string_view where) {
  const Keys keys(gate, where);
  const auto type = keys.text("type");
  if (type != "interaction") unsupported(keys.where("type"), "\"interaction\"", in_quotes(type));
  keys.refuse_unless("propagate_in_depth", false);
  DropGateConfig out;
  out.dim = keys.count_or("dim", most_features, 0);
  out.threshold = static_cast<float>(keys.number_or("threshold", 0.0));
  out.recent = keys.count_or("recent", most_positions, 1);
  out.sinks = keys.count_or("sinks", most_positions, 0, 0);
  const auto scope = keys.text_or("scope", name(GateScope::layer));
  if (scope == name(GateScope::kv_head))
    out.scope = GateScope::kv_head;
  else if (scope != name(GateScope::layer))
    unsupported(keys.where("scope"), "\"layer\" or \"kv_head\"", in_quotes(scope));
  return out;
}

}  // namespace pith::inline nn
