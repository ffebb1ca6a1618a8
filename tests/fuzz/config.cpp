// SPDX-License-Identifier: MIT
// Any text as config.json: an Error, or a Config that keeps what it promises.
#include "nn/arch/config.hpp"

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "pith/error.hpp"

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

void check(const pith::Config& c) {
  check(c.vocab_size > 0 && c.d_model > 0 && c.n_layers() > 0 && c.head_dim > 0 && c.d_ff > 0 && c.context > 0);
  check(c.n_kv_heads > 0 && c.n_heads % c.n_kv_heads == 0);
  check(c.d_query() / c.head_dim == c.n_heads);
  check(std::isfinite(c.norm_eps) && c.norm_eps > 0.0f);
  for (const pith::RopeConfig& rope : c.ropes) {
    check(std::isfinite(rope.theta) && rope.theta > 0.0f && c.head_dim % 2 == 0);
    check(std::isfinite(rope.magnitude) && rope.dim >= 0 && rope.dim <= c.head_dim && rope.dim % 2 == 0);
    for (const auto& divisors : {rope.divisors, rope.long_divisors}) {
      check(divisors.empty() || divisors.size() == static_cast<std::size_t>(c.dim_of(rope) / 2));
      for (const float divisor : divisors) check(std::isfinite(divisor) && divisor > 0.0f);
    }
  }
  for (const pith::LayerPlan& plan : c.layers) {
    check(plan.experts.count >= 0 && plan.experts.chosen <= plan.experts.count && c.d_ff_of(plan) > 0);
    check(plan.window >= 0 && plan.rope >= -1 && plan.rope < static_cast<int>(c.ropes.size()));
  }
  for (const std::int32_t token : c.end_tokens) check(token >= 0 && token < c.vocab_size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto json = pith::parse_json({reinterpret_cast<const char*>(data), size}, "config.json");
    pith::Config config = pith::read_config(json, "config.json");
    check(config);
    pith::read_generation_config(json, "config.json", config);
    check(config);
    if (json.contains("drop_gate")) {
      const auto gate = pith::read_drop_gate(json["drop_gate"], "config.json: drop_gate");
      check(gate.dim >= 0 && gate.recent >= 1 && std::isfinite(gate.threshold));
    }
  } catch (const pith::Error&) {
  }
  return 0;
}
