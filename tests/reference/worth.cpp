// SPDX-License-Identifier: MIT
#include "worth.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

namespace pith::reference {

namespace {

using Numbers = std::vector<double>;

Numbers multiply(const Matrix& w, const Numbers& x) {
  Numbers out(w.rows());
  std::vector<float> row(w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r) {
    w.row(r, row);
    for (std::size_t c = 0; c < w.cols(); ++c) out[r] += static_cast<double>(row[c]) * x[c];
  }
  return out;
}

Numbers linear(const prune::LinearWorth& gate, const Numbers& x) {
  Numbers out = multiply(gate.weight, x);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += static_cast<double>(gate.bias[i]);
  return out;
}

/// x / sqrt(mean x^2 + 1e-6) * weight, of the numbers [first, first + weight.size()).
Numbers rms(const Numbers& x, std::size_t first, const std::vector<float>& weight) {
  double squares = 0;
  for (std::size_t i = 0; i < weight.size(); ++i) squares += x[first + i] * x[first + i];
  const double scale = 1 / std::sqrt(squares / static_cast<double>(weight.size()) + 1e-6);
  Numbers out;
  for (std::size_t i = 0; i < weight.size(); ++i) out.push_back(x[first + i] * scale * static_cast<double>(weight[i]));
  return out;
}

double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct Gate {
  const Numbers& x;

  Numbers operator()(const prune::LinearWorth& gate) const { return linear(gate, x); }

  Numbers operator()(const prune::MlpWorth& gate) const {
    Numbers hidden = linear(gate.hidden, x);
    for (double& value : hidden) value = 0.5 * value * (1 + std::erf(value / std::numbers::sqrt2));
    return linear(gate.out, hidden);
  }

  Numbers operator()(const prune::SinkWorth& gate) const {
    const std::size_t dim = gate.q_norm.size(), heads = gate.keys.rows() / dim, groups = gate.bias.size() / heads,
                      sinks = gate.sinks.size() / heads / dim;
    const double root = std::sqrt(static_cast<double>(dim));
    const Numbers queries = linear(gate.queries, x), keys = multiply(gate.keys, x);
    Numbers out;
    for (std::size_t h = 0; h < heads; ++h) {
      const Numbers k = rms(keys, h * dim, gate.k_norm);
      double sum = 0;
      for (std::size_t g = 0; g < groups; ++g) {
        const Numbers q = rms(queries, (h * groups + g) * dim, gate.q_norm);
        const double own = std::exp(dot(k, q) / root + static_cast<double>(gate.bias[h * groups + g]));
        double all = own;
        for (std::size_t s = 0; s < sinks; ++s) {
          const auto first = gate.sinks.begin() + static_cast<std::ptrdiff_t>((h * sinks + s) * dim);
          all += std::exp(dot(Numbers(first, first + static_cast<std::ptrdiff_t>(dim)), q) / root);
        }
        sum += own / all;
      }
      out.push_back(sum / static_cast<double>(groups));
    }
    return out;
  }
};

}  // namespace

Rows worth(const prune::Worth& gate, const Rows& inputs) {
  Rows out;
  for (const Numbers& x : inputs) out.push_back(std::visit(Gate{x}, gate));
  return out;
}

void WorthSight::reads(int layer, const Rows& inputs) {
  Rows& all = worth_[static_cast<std::size_t>(layer)];
  all = worth(gates_.layers[static_cast<std::size_t>(layer)], inputs);
  for (const auto& token : all)
    for (const double one : token)
      min_margin_ = std::min(min_margin_, std::abs(one - static_cast<double>(options_.threshold)));
}

bool WorthSight::sees(int layer, int kv_head, int n, int j) const {
  const double one =
      worth_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(j)][static_cast<std::size_t>(kv_head)];
  if (j < options_.sinks || one >= static_cast<double>(options_.threshold) || n <= j + options_.window) return true;
  return std::ranges::any_of(prompts_, [&](const Prompt& prompt) { return prompt.begin <= j && n < prompt.end; });
}

}  // namespace pith::reference
