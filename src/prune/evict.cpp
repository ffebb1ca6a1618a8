// SPDX-License-Identifier: MIT
#include "pith/prune/evict.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "pith/tensor/ops.hpp"

namespace pith::prune {

namespace {

float norm(std::span<const float> x) { return std::sqrt(ops::dot(x.data(), x.data(), x.size())); }

constexpr float leaves = -1;  // weight of a victim

/// Into the scratch, of a head's rows: keys [row][dim], in `squares` their lengths, and weights of what is folded
/// together, 0 = nothing yet. Beside them is room for folded values [row][dim] and, in `numbers`, for one value.
void begin_folding(const Cut& cut, std::size_t head) {
  const Lane& lane = cut.rows();
  const std::size_t dim = lane.layout().shape().head_dim, rows = lane.rows();
  Scratch& scratch = *cut.moment.scratch;
  scratch.keys.resize(rows * dim);
  scratch.folded.resize(rows * dim);
  scratch.squares.resize(rows);
  scratch.numbers.resize(dim);
  scratch.weights.assign(rows, 0.0f);
  for (const std::size_t row : cut.victims) scratch.weights[row] = leaves;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::span key(&scratch.keys[row * dim], dim);
    lane.row(row).key(head, key);
    scratch.squares[row] = norm(key);
  }
}

/// Rows whose weight is above `untouched` become the mean of what was folded into them; the others stay bit for bit.
void end_folding(const Cut& cut, std::size_t head, float untouched) {
  const std::size_t dim = cut.rows().layout().shape().head_dim;
  Scratch& scratch = *cut.moment.scratch;
  for (std::size_t row = 0; row < scratch.weights.size(); ++row) {
    if (scratch.weights[row] <= untouched) continue;
    const std::span fold(&scratch.folded[row * dim], dim);
    ops::scale(fold.data(), 1 / scratch.weights[row], dim);
    cut.layer.changing(cut.lane, row).set_value(head, fold);
  }
}

}  // namespace

void MergeValues::operator()(const Cut& cut) const {
  const Lane& lane = cut.rows();
  const auto& shape = lane.layout().shape();
  const std::size_t dim = shape.head_dim, rows = lane.rows();
  Scratch& scratch = *cut.moment.scratch;
  auto &keys = scratch.keys, &folded = scratch.folded;  // folded: values, with what joined them
  auto &norms = scratch.squares, &weights = scratch.weights, &value = scratch.numbers;
  for (std::size_t h = 0; h < shape.heads; ++h) {
    begin_folding(cut, h);
    for (const std::size_t victim : cut.victims) {
      std::size_t nearest = rows;
      float most = 0;  // a cosine below 0 has no weight
      for (std::size_t row = 0; row < rows; ++row) {
        if (weights[row] == leaves || norms[row] == 0 || norms[victim] == 0) continue;
        const float cosine = ops::dot(&keys[row * dim], &keys[victim * dim], dim) / (norms[row] * norms[victim]);
        if (cosine <= most) continue;
        most = cosine;
        nearest = row;
      }
      if (nearest == rows) continue;
      lane.row(nearest).value(h, value);
      const float of_nearest = norm(value);
      const std::span fold(&folded[nearest * dim], dim);
      if (weights[nearest] == 0) {
        std::ranges::copy(value, fold.begin());
        weights[nearest] = 1;
      }
      lane.row(victim).value(h, value);
      const float own = norm(value);
      if (own == 0) continue;
      const float w = most * own / (own + of_nearest);
      for (std::size_t c = 0; c < dim; ++c) fold[c] += w * value[c];
      weights[nearest] += w;
    }
    end_folding(cut, h, 1);
  }
}

void MergeAlike::operator()(const Cut& cut) const {
  const Lane& lane = cut.rows();
  const auto& shape = lane.layout().shape();
  const std::size_t dim = shape.head_dim, rows = lane.rows();
  Scratch& scratch = *cut.moment.scratch;
  auto &keys = scratch.keys, &folded = scratch.folded;  // folded: weighted values, with what joined them
  auto &norms = scratch.squares, &weights = scratch.weights, &value = scratch.numbers;
  auto& alike = scratch.values;     // [victim] its cosine
  auto& nearest = scratch.nearest;  // [victim] the row that stays whose key is most like its
  auto& thresholds = lane.state(state);
  const Slot mass = lane.slot(column::mass);
  constexpr float own_weight = std::numbers::e_v<float>;
  for (std::size_t h = 0; h < shape.heads; ++h) {
    begin_folding(cut, h);
    alike.assign(cut.victims.size(), -1.0f);
    nearest.assign(cut.victims.size(), rows);
    double sum = 0;
    for (std::size_t v = 0; v < cut.victims.size(); ++v) {
      const std::size_t victim = cut.victims[v];
      for (std::size_t row = 0; row < rows; ++row) {
        if (weights[row] == leaves) continue;
        const float product = norms[row] * norms[victim];
        const float cosine = product > 0 ? ops::dot(&keys[row * dim], &keys[victim * dim], dim) / product : 0;
        if (nearest[v] != rows && cosine <= alike[v]) continue;
        alike[v] = cosine;
        nearest[v] = row;
      }
      sum += static_cast<double>(alike[v]);
    }
    if (nearest.empty() || nearest.front() == rows) return;  // none stays
    const auto mean = static_cast<float>(sum / static_cast<double>(cut.victims.size()));
    if (h == thresholds.size())
      thresholds.push_back(mean);
    else
      thresholds[h] = memory * thresholds[h] + (1 - memory) * mean;
    for (std::size_t v = 0; v < cut.victims.size(); ++v) {
      if (alike[v] < thresholds[h]) continue;
      const std::size_t row = nearest[v], victim = cut.victims[v];
      const std::span fold(&folded[row * dim], dim);
      if (weights[row] == 0) {
        lane.row(row).value(h, fold);
        ops::scale(fold.data(), own_weight, dim);
        weights[row] = own_weight;
      }
      lane.row(victim).value(h, value);
      const float w = std::exp(alike[v]);
      for (std::size_t c = 0; c < dim; ++c) fold[c] += w * value[c];
      weights[row] += w;
      if (mass) lane.evidence(mass, row) += lane.evidence(mass, victim) / static_cast<float>(shape.heads);
    }
    end_folding(cut, h, 0);
  }
}

}  // namespace pith::prune
