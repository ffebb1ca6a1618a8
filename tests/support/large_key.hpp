// SPDX-License-Identifier: MIT
// A model whose first layer makes of one token a key that f16 cannot hold, and of no other.
#pragma once

#include "support/random_model.hpp"

namespace pith::testing {

inline constexpr Token too_large = 7;

inline Model model_with_a_large_key(ModelSpec::Gate gate = ModelSpec::Gate::no) {
  const Model model = random_model(
      {.seed = 5, .architecture = Architecture::llama, .head_dim = 16, .n_layers = 2, .context = 120, .gate = gate});
  const Config& config = model.config();
  Weights weights = model.weights();
  const auto edited = [](const Matrix& m, auto&& edit) {
    Tensor<float> values(m.rows(), m.cols());
    for (std::size_t row = 0; row < m.rows(); ++row) {
      m.row(row, values[row]);
      edit(row, values[row]);
    }
    return Matrix::encode(Format::f32, values.view());
  };
  weights.embedding = edited(weights.embedding,
                             [](std::size_t row, std::span<float> x) { x[0] = row == std::size_t{too_large} ? 1 : 0; });
  if (config.tied_head) weights.head = weights.embedding;
  weights.layers[0].wk.weight =
      edited(weights.layers[0].wk.weight, [](std::size_t, std::span<float> w) { w[0] = 1e8f; });
  return Model::create(config, weights);
}

}  // namespace pith::testing
