// SPDX-License-Identifier: MIT
// Gates on a token's own state with random weights, in the shape of a model: about as many rows are worth more than
// `middle` as less.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "pith/nn/config.hpp"
#include "pith/prune/worth.hpp"
#include "support/random_model.hpp"

namespace pith::testing {

enum class WorthKind { linear, mlp, sink };

inline float middle(WorthKind kind) { return kind == WorthKind::sink ? 0.4f : 0.0f; }

inline prune::WorthGates random_worth(std::uint64_t seed, const Config& config, WorthKind kind,
                                      Format format = Format::f32) {
  Random random(seed);
  const auto d = static_cast<std::size_t>(config.d_model), heads = static_cast<std::size_t>(config.n_kv_heads);
  const auto numbers = [&](std::size_t n, float mean, float scale) {
    std::vector<float> values(n);
    for (float& value : values) value = mean + scale * random.normal();
    return values;
  };
  const auto linear = [&](std::size_t rows, std::size_t cols) {
    const auto values = numbers(rows * cols, 0, 1 / std::sqrt(static_cast<float>(cols)));
    return prune::LinearWorth{Matrix::encode(format, {values.data(), rows, cols}), numbers(rows, 0, 0.1f)};
  };
  prune::WorthGates gates;
  for (std::size_t layer = 0; layer < config.layers.size(); ++layer) {
    if (kind == WorthKind::linear) gates.layers.emplace_back(linear(heads, d));
    if (kind == WorthKind::mlp) gates.layers.emplace_back(prune::MlpWorth{linear(20, d), linear(heads, 20)});
    if (kind == WorthKind::sink) {
      constexpr std::size_t dim = 8, groups = 2, sinks = 3;
      prune::SinkWorth gate{.queries = linear(heads * groups * dim, d),
                            .keys = linear(heads * dim, d).weight,
                            .q_norm = numbers(dim, 1, 0.1f),
                            .k_norm = numbers(dim, 1, 0.1f),
                            .sinks = numbers(heads * sinks * dim, 0, 0.6f),
                            .bias = numbers(heads * groups, 0, 0.2f)};
      gates.layers.emplace_back(std::move(gate));
    }
  }
  return gates;
}

}  // namespace pith::testing
