// SPDX-License-Identifier: MIT
#include "c/options.hpp"

#include "pith/prune/spec.hpp"
#include "pith/tensor/kv_format.hpp"

namespace pith::c {

template <>
pith_sampler_options defaults() {
  const SamplerOptions usual;
  pith_sampler_options options{};
  options.size = sizeof options;
  options.temperature = usual.temperature;
  options.top_k = usual.top_k;
  options.top_p = usual.top_p;
  options.min_p = usual.min_p;
  options.repetition_penalty = usual.repetition_penalty;
  options.frequency_penalty = usual.frequency_penalty;
  options.presence_penalty = usual.presence_penalty;
  options.repetition_window = usual.repetition_window;
  options.seed = usual.seed;
  return options;
}

template <>
pith_session_options defaults() {
  const SessionOptions usual;
  pith_session_options options{};
  options.size = sizeof options;
  options.chunk = usual.chunk;
  options.context = usual.context;
  options.kv_budget = usual.kv_budget;
  options.record_drops = usual.record_drops;
  return options;
}

SamplerOptions sampler_options(const Given& given, const pith_sampler_options* options, const std::string& name) {
  const auto chosen = received(given, options, name);
  SamplerOptions how{.temperature = chosen.temperature,
                     .top_k = chosen.top_k,
                     .top_p = chosen.top_p,
                     .min_p = chosen.min_p,
                     .repetition_penalty = chosen.repetition_penalty,
                     .frequency_penalty = chosen.frequency_penalty,
                     .presence_penalty = chosen.presence_penalty,
                     .repetition_window = chosen.repetition_window,
                     .seed = chosen.seed};
  for (const pith_token_bias& bias : given(chosen.logit_bias, chosen.logit_bias_count, name + ".logit_bias"))
    how.logit_bias.push_back({.token = bias.token, .bias = bias.bias});
  const auto banned = given(chosen.banned, chosen.banned_count, name + ".banned");
  const auto allowed = given(chosen.allowed, chosen.allowed_count, name + ".allowed");
  how.banned.assign(banned.begin(), banned.end());
  how.allowed.assign(allowed.begin(), allowed.end());
  return how;
}

SessionOptions session_options(const Given& given, const pith_session_options* options, const Model& model) {
  const auto chosen = received(given, options, "options");
  SessionOptions how{.threads = Threads(chosen.threads),
                     .chunk = chosen.chunk,
                     .context = chosen.context,
                     .kv_budget = chosen.kv_budget,
                     .record_drops = chosen.record_drops};
  const char* const usual = model.config().gate ? "gate" : "none";
  how.policy = prune::parse(chosen.policy != nullptr ? chosen.policy : usual, chosen.tau);
  if (chosen.kv != nullptr) {
    const auto format = kv_pair_named(chosen.kv);
    if (!format)
      given.refuse("options.kv is \"" + std::string(chosen.kv) + "\", expected a format such as f16 or k=q8_0,v=q4_0");
    how.kv = *format;
  }
  if (chosen.gate_keys != nullptr) {
    const std::string_view format = chosen.gate_keys;
    if (format != "f32" && format != "f16")
      given.refuse("options.gate_keys is \"" + std::string(format) + "\", expected f32 or f16");
    how.gate_keys = format == "f32" ? GateKeys::f32 : GateKeys::f16;
  }
  if (chosen.on_prefill != nullptr)
    how.on_prefill = [tell = chosen.on_prefill, user = chosen.user](const Progress& progress) {
      tell(user, static_cast<pith_sequence>(progress.sequence), progress.done, progress.total);
    };
  if (chosen.on_drop != nullptr)
    how.on_drop = [tell = chosen.on_drop, user = chosen.user](SequenceId sequence, const Drop& drop) {
      const pith_drop told{.layer = drop.layer,
                           .lane = drop.lane,
                           .position = drop.position,
                           .until = drop.until,
                           .gate_score = drop.gate_score};
      tell(user, static_cast<pith_sequence>(sequence), &told);
    };
  return how;
}

std::vector<pith_token_logprob> in_c(std::span<const TokenLogprob> logprobs) {
  std::vector<pith_token_logprob> out;
  out.reserve(logprobs.size());
  for (const auto& [token, logprob] : logprobs) out.push_back({.token = token, .logprob = logprob});
  return out;
}

namespace {

struct OwnedStats : pith_stats {
  CacheStats own;
};

}  // namespace

pith_stats* in_c(CacheStats stats) {
  auto owned = std::make_unique<OwnedStats>();
  owned->own = std::move(stats);
  const CacheStats& own = owned->own;
  static_cast<pith_stats&>(*owned) = {.size = sizeof(pith_stats),
                                      .bytes_used = own.bytes_used,
                                      .bytes_shared = own.bytes_shared,
                                      .bytes_reserved = own.bytes_reserved,
                                      .bytes_high_water = own.bytes_high_water,
                                      .bytes_dense = own.bytes_dense,
                                      .bytes_state = own.bytes_state,
                                      .seen_rows = own.seen_rows,
                                      .dropped_rows = own.dropped_rows,
                                      .live_rows = own.live_rows.data(),
                                      .layers = own.live_rows.size(),
                                      .policy = own.policy.c_str()};
  return owned.release();
}

}  // namespace pith::c

using namespace pith::c;

pith_status pith_sampler_options_init(pith_sampler_options* options, size_t size) {
  return init(__func__, options, size);
}

pith_status pith_session_options_init(pith_session_options* options, size_t size) {
  return init(__func__, options, size);
}

pith_status pith_policy_parse(const char* policy, float tau, char** canonical) {
  return call(__func__, [&](const Given& given) {
    given(policy, "policy");
    const auto parsed = pith::prune::parse(policy, tau);
    if (canonical != nullptr) *canonical = copied(parsed.describe());
  });
}

void pith_stats_free(pith_stats* stats) { delete static_cast<OwnedStats*>(stats); }
