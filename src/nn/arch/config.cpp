// SPDX-License-Identifier: MIT
// What the files of all families say in the same way, and who reads the rest.
#include "nn/arch/config.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

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

int read_gguf_vocabulary(const gguf::File& file, const GgufKeys& keys) {
  const auto where = file.file->path().string();
  if (file.tensors.empty()) unsupported(where, "the tensors of a model", "none: a vocabulary only");
  const std::string name = filled(gguf_spellings(Role::embedding)[0]->pattern, {}) + ".weight";
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

}  // namespace

Config read_config(const nlohmann::json& config, std::string_view where) {
  const Keys keys(config, where);
  const Family& family = family_named(&Family::model_type, keys.text("model_type"), keys.where("model_type"));
  refuse_quantisation(keys);
  Config c;
  c.architecture = family.architecture;
  c.vocab_size = keys.count("vocab_size", most_tokens);
  family.read(keys, c);
  read_special_tokens(keys, c);
  return c;
}

void read_generation_config(const nlohmann::json& generation, std::string_view where, Config& config) {
  read_special_tokens(Keys(generation, where), config);
}

Config read_config(const gguf::File& file) {
  const auto architecture = file.get<std::string>("general.architecture");
  const Family& family =
      family_named(&Family::gguf, architecture, file.file->path().string() + ": key \"general.architecture\"");
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
  const auto scope = keys.text_or("scope", name(GateScope::layer));
  if (scope == name(GateScope::kv_head))
    out.scope = GateScope::kv_head;
  else if (scope != name(GateScope::layer))
    unsupported(keys.where("scope"), "\"layer\" or \"kv_head\"", in_quotes(scope));
  return out;
}

}  // namespace pith::inline nn
