// SPDX-License-Identifier: MIT
#include "session/setup.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "pith/error.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"

namespace pith {

namespace {

prune::AnyPolicy policy_of(const Config& config, const SessionOptions& options) {
  if (options.policy) return *options.policy;
  return config.gate ? prune::learned_gate() : config.dms ? prune::dms() : prune::none();
}

/// What the policy needs, and what on_drop tells beside.
prune::Needs needs_of(const Config& config, const prune::AnyPolicy& policy, const SessionOptions& options) {
  prune::Needs needs = policy.needs();
  // Heads with gates of their own forget differently.
  if (needs.gate && config.gate_per_head()) needs.lane_per_head = true;
  if (needs.gate && options.on_drop) needs.evidence = needs.evidence | column::gate_logit;
  return needs;
}

bool any_shares(const Config& config) {
  return std::ranges::any_of(config.layers, [](const LayerPlan& plan) { return plan.kv_from >= 0; });
}

/// Where tokens leave a prompt, a stage ends.
std::vector<Stage> stages_of(const Config& config, const prune::AnyPolicy& policy, const prune::Needs& needs) {
  std::vector<Stage> stages = {{.begin = 0}};
  const std::size_t n = config.layers.size();
  for (std::size_t layer = 0; layer + 1 < n; ++layer) {
    if (!policy.narrows_after(layer, n)) continue;
    stages.back().end = layer + 1;
    stages.push_back({.begin = layer + 1});
  }
  stages.back().end = n;
  if (stages.size() > 1 && (needs.gate || needs.decisions))
    fail(ErrorCode::unsupported, "policy",
         "no " + std::string(needs.gate ? "learned gate" : "decisions that a model was taught (DMS)") +
             " beside a method by which tokens leave between layers",
         policy.describe());
  if (stages.size() > 1 && any_shares(config))
    fail(
        ErrorCode::unsupported, "policy",
        "a model whose layers all have keys and values of their own, for a method by which tokens leave between layers",
        policy.describe());
  return stages;
}

void check_shape(const prune::MadeFor& file, const Config& config) {
  const auto text = [&](std::size_t layers, std::size_t kv_heads, std::size_t d_model) {
    return std::to_string(layers) + " layers of " + std::to_string(kv_heads) + " kv-heads" +
           (file.d_model != 0 ? " and width " + std::to_string(d_model) : "");
  };
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  const std::string expected = text(size(config.n_layers()), size(config.n_kv_heads), size(config.d_model));
  const std::string found = text(file.layers, file.kv_heads, file.d_model);
  if (found != expected)
    fail(ErrorCode::model, file.file.empty() ? "policy" : file.file, "a file for the model's " + expected,
         "one for " + found);
  for (const std::size_t layer : file.lasting)
    if (config.layers[layer].window > 0)
      fail(ErrorCode::unsupported, file.file.empty() ? "policy" : file.file,
           "no scores (null) for the kv-heads of layer " + std::to_string(layer) +
               ", which has a sliding window of its own",
           "some");
}

KvLayouts layouts_of(const Config& config, const SessionOptions& options, const prune::Needs& needs) {
  if (needs.gate && !config.gate)
    fail(ErrorCode::unsupported, "policy", "a model with learned gates (its own, or a sidecar's)", "none");
  if (needs.decisions && !config.dms)
    fail(ErrorCode::unsupported, "policy", "a model that was taught to decide what it forgets (DMS)", "another");
  const auto check = [](std::size_t asked, int there, const std::string& what) {
    if (asked > static_cast<std::size_t>(there))
      fail(ErrorCode::argument, "policy", what + "s below the model's " + std::to_string(there),
           what + " " + std::to_string(asked - 1));
  };
  for (const prune::MadeFor& file : needs.made_for) check_shape(file, config);
  check(needs.layers, config.n_layers(), "layer");
  check(needs.kv_heads, config.n_kv_heads, "kv-head");
  if (needs.after_pass && std::ranges::none_of(config.layers, [](const LayerPlan& plan) { return plan.window == 0; }))
    fail(ErrorCode::unsupported, "policy that judges layers together", "a layer without a sliding window of its own",
         "none");
  if (config.head_dim % block_values(options.kv) != 0)
    fail(ErrorCode::unsupported, "cache format " + name(options.kv),
         "a head_dim that is a multiple of " + std::to_string(block_values(options.kv)),
         std::to_string(config.head_dim));
  if (const auto block = static_cast<std::size_t>(block_values(options.kv.keys));
      static_cast<std::size_t>(config.head_dim) / block < needs.key_blocks)
    fail(ErrorCode::unsupported, "policy",
         "keys of at least " + std::to_string(needs.key_blocks * block) + " numbers in a cache of " +
             std::string(name(options.kv.keys)) + ", of which some can be left out",
         "head_dim " + std::to_string(config.head_dim));
  const GateKeys gate_keys = options.gate_keys.value_or(options.kv == KvFormat::f32 ? GateKeys::f32 : GateKeys::f16);
  PageLayout::Shape gate{.heads = 0,
                         .gate_dim = needs.gate ? static_cast<std::size_t>(config.gate->dim) : 0,
                         .gate_keys = gate_keys == GateKeys::f32 ? KvFormat::f32 : KvFormat::f16,
                         .evidence = column::holders};
  const bool apart = needs.gate && needs.lane_per_head && !config.gate_per_head();
  return {PageLayout({.keys = options.kv.keys,
                      .values = options.kv.values,
                      .heads = needs.lane_per_head ? 1 : static_cast<std::size_t>(config.n_kv_heads),
                      .head_dim = static_cast<std::size_t>(config.head_dim),
                      .gate_dim = apart ? 0 : gate.gate_dim,
                      .gate_keys = gate.gate_keys,
                      .evidence = needs.evidence}),
          apart ? std::optional<PageLayout>(gate) : std::nullopt};
}

std::vector<std::size_t> kv_owners(const Config& config) {
  std::vector<std::size_t> owners;
  for (std::size_t layer = 0; layer < config.layers.size(); ++layer) owners.push_back(config.kv_owner(layer));
  return owners;
}

std::size_t context_of(const Config& config, const SessionOptions& options) {
  if (options.chunk < 1) fail(ErrorCode::argument, "chunk", "at least 1", std::to_string(options.chunk));
  if (options.ahead < 0) fail(ErrorCode::argument, "ahead", "at least 0", std::to_string(options.ahead));
  if (options.context < 0) fail(ErrorCode::argument, "context", "at least 0", std::to_string(options.context));
  // Learned positions end where the table does; rotary ones go on.
  if (config.learned_positions && options.context > config.context)
    fail(ErrorCode::argument, "context", "at most the model's " + std::to_string(config.context) + " positions",
         std::to_string(options.context));
  return static_cast<std::size_t>(options.context > 0 ? options.context : config.context);
}

}  // namespace

Setup::Setup(Model some_model, SessionOptions some_options)
    : model(std::move(some_model)),
      options(std::move(some_options)),
      config(model.config()),
      policy(policy_of(config, options)),
      needs(needs_of(config, policy, options)),
      stages(stages_of(config, policy, needs)),
      context(context_of(config, options)),
      layouts(layouts_of(config, options, needs)),
      by_rounds(!needs.after_pass && !any_shares(config) && stages.size() == 1),
      takes_back(prune::looks_back_alone(policy) && !needs.decisions) {}

bool Setup::shares_lanes() const { return any_shares(config); }

void require_early_exit(const Config& config, const prune::Needs& needs) {
  require(!needs.after_pass, ErrorCode::unsupported,
          "draft: expected a policy that judges layer by layer, found one that judges them together");
  require(
      !any_shares(config), ErrorCode::unsupported,
      "draft: expected a model whose layers all have keys and values of their own, found one where some share them");
}

std::size_t Setup::expected_tokens() const {
  constexpr std::size_t most = 8192;
  return std::min(context, most);
}

KvCache Setup::make_cache(PagePool& pool) const {
  return KvCache(layouts, pool, kv_owners(config), lanes_per_layer(), expected_tokens(),
                 keeps_history() ? DropLog::Keep::history : DropLog::Keep::counts);
}

}  // namespace pith
