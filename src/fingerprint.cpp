// SPDX-License-Identifier: MIT
#include "fingerprint.hpp"

#include <algorithm>
#include <cstdio>
#include <span>

#include "files/checksum.hpp"
#include "pith/nn/parameters.hpp"

namespace pith {

namespace {

template <class... T>
void add_all(Checksum& sum, T... numbers) {
  (sum.add(numbers), ...);
}

void add(Checksum& sum, const std::vector<float>& values) {
  sum.add(values.size());
  sum.add(std::as_bytes(std::span(values)));
}

void add(Checksum& sum, const Matrix& matrix) {
  constexpr std::size_t samples = 16, of = 32;  // bytes
  add_all(sum, static_cast<int>(matrix.format()), matrix.rows(), matrix.cols());
  const std::span<const std::byte> bytes(matrix.data(), matrix.bytes());
  const std::size_t each = std::min(of, bytes.size());
  for (std::size_t i = 0; i < samples; ++i) sum.add(bytes.subspan((bytes.size() - each) * i / (samples - 1), each));
}

void add(Checksum& sum, const LayerPlan& p) {
  add_all(sum, static_cast<int>(p.norm), p.pre_norms, p.post_norms, static_cast<int>(p.qk_norm),
          static_cast<int>(p.mlp), static_cast<int>(p.activation), p.rope, p.window, p.query_scale, p.score_cap,
          p.kv_from, p.d_ff, p.experts.count, p.experts.chosen, p.experts.renormalised);
}

void add(Checksum& sum, const RopeConfig& rope) {
  add_all(sum, rope.theta, rope.dim, rope.magnitude, rope.original_context);
  add(sum, rope.divisors);
  add(sum, rope.long_divisors);
}

void add(Checksum& sum, const Config& c) {
  add_all(sum, c.vocab_size, c.d_model, c.n_heads, c.n_kv_heads, c.head_dim, c.d_ff, c.norm_eps,
          static_cast<int>(c.final_norm), c.tied_head, c.learned_positions, c.embedding_scale, c.residual_scale,
          c.logit_scale, c.logit_cap, static_cast<int>(c.rope_pairs));
  for (const LayerPlan& plan : c.layers) add(sum, plan);
  for (const RopeConfig& rope : c.ropes) add(sum, rope);
  if (c.gate)
    add_all(sum, c.gate->dim, c.gate->threshold, c.gate->recent, c.gate->sinks, static_cast<int>(c.gate->scope));
  if (c.dms) add_all(sum, c.dms->scale, c.dms->offset, c.dms->window);
}

}  // namespace

std::string fingerprint(const Model& model) {
  const Config& config = model.config();
  Checksum sum;
  add(sum, config);
  for_each_parameter(config, model.weights(), [&](const Parameter&, const auto& kept) { add(sum, kept); });
  char number[17];
  std::snprintf(number, sizeof number, "%016llx", static_cast<unsigned long long>(sum.value()));
  return std::string(name(config.architecture)) + " of " + std::to_string(config.layers.size()) + " layers, " + number;
}

}  // namespace pith
