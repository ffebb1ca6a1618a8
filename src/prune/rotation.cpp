// SPDX-License-Identifier: MIT
#include "pith/prune/rotation.hpp"

#include <cmath>

namespace pith::prune {

namespace {

/// a, b = R^T (a, b)
void turn_back(float cosine, float sine, float& a, float& b) {
  const float turned = a * cosine + b * sine;
  b = b * cosine - a * sine;
  a = turned;
}

}  // namespace

void Rotation::undo(Position p, std::size_t head_dim, std::span<float> x) const {
  for (std::size_t pair = 0; pair < frequencies.size(); ++pair) {
    const double angle = static_cast<double>(p) * frequencies[pair];
    const auto cosine = static_cast<float>(std::cos(angle)) / magnitude;
    const auto sine = static_cast<float>(std::sin(angle)) / magnitude;
    for (std::size_t head = 0; head < x.size(); head += head_dim)
      turn_back(cosine, sine, x[head + first(pair)], x[head + second(pair)]);
  }
}

void Rotation::mean(Position begin, Position end, std::vector<float>& turns) const {
  turns.assign(2 * frequencies.size(), 0.0f);
  const double weight = static_cast<double>(magnitude) / static_cast<double>(end - begin);
  for (std::size_t pair = 0; pair < frequencies.size(); ++pair) {
    double cosines = 0, sines = 0;
    for (Position p = begin; p < end; ++p) {
      cosines += std::cos(static_cast<double>(p) * frequencies[pair]);
      sines += std::sin(static_cast<double>(p) * frequencies[pair]);
    }
    turns[2 * pair] = static_cast<float>(weight * cosines);
    turns[2 * pair + 1] = static_cast<float>(weight * sines);
  }
}

void Rotation::transposed(std::span<const float> turns, std::span<float> x) const {
  for (std::size_t pair = 0; pair < frequencies.size(); ++pair)
    turn_back(turns[2 * pair], turns[2 * pair + 1], x[first(pair)], x[second(pair)]);
}

}  // namespace pith::prune
