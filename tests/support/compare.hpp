// SPDX-License-Identifier: MIT
// How far two sequences of logits are apart, relative to the largest magnitude of each row.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace pith::testing {

/// The largest |a - b| of a row over the row's largest |b|, over all rows; infinity where the shapes differ or a number
/// is not finite.
template <class A, class B>
double relative_error(const std::vector<std::vector<A>>& a, const std::vector<std::vector<B>>& b) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return infinity;
  double worst = 0;
  for (std::size_t t = 0; t < a.size(); ++t) {
    if (a[t].size() != b[t].size()) return infinity;
    double difference = 0, largest = std::numeric_limits<double>::min();
    for (std::size_t i = 0; i < a[t].size(); ++i) {
      const auto x = static_cast<double>(a[t][i]), y = static_cast<double>(b[t][i]);
      if (!std::isfinite(x) || !std::isfinite(y)) return infinity;
      difference = std::max(difference, std::abs(x - y));
      largest = std::max(largest, std::abs(y));
    }
    worst = std::max(worst, difference / largest);
  }
  return worst;
}

inline bool same_bits(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  });
}

}  // namespace pith::testing
