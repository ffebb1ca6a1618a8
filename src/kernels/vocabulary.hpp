// SPDX-License-Identifier: MIT
// The words that kernels are written in: what each means, and its plain twin.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "pith/tensor/format.hpp"

namespace pith::kernels {
namespace {
namespace twin {

/// `width` floats, its lanes.
constexpr std::size_t width = 4;
struct F {
  float lanes[width];
};

/// f(lane, ...) of every lane.
template <class Function>
inline F each(Function f) {
  F out;
  for (std::size_t l = 0; l < width; ++l) out.lanes[l] = f(l);
  return out;
}

inline F operator+(F a, F b) {
  return each([&](std::size_t l) { return a.lanes[l] + b.lanes[l]; });
}
inline F operator-(F a, F b) {
  return each([&](std::size_t l) { return a.lanes[l] - b.lanes[l]; });
}
inline F operator*(F a, F b) {
  return each([&](std::size_t l) { return a.lanes[l] * b.lanes[l]; });
}
inline F operator/(F a, F b) {
  return each([&](std::size_t l) { return a.lanes[l] / b.lanes[l]; });
}

/// x in every lane.
inline F splat(float x) {
  return each([&](std::size_t) { return x; });
}

/// Lane l = p[l].
inline F load(const float* p) {
  return each([&](std::size_t l) { return p[l]; });
}
inline void store(float* p, F v) {
  for (std::size_t l = 0; l < width; ++l) p[l] = v.lanes[l];
}

/// a b + c, rounded once.
inline F fma(F a, F b, F c) {
  return each([&](std::size_t l) { return std::fma(a.lanes[l], b.lanes[l], c.lanes[l]); });
}
/// The larger; where either is no number, b.
inline F max(F a, F b) {
  return each([&](std::size_t l) { return a.lanes[l] > b.lanes[l] ? a.lanes[l] : b.lanes[l]; });
}
/// The smaller; where either is no number, b.
inline F min(F a, F b) {
  return each([&](std::size_t l) { return a.lanes[l] < b.lanes[l] ? a.lanes[l] : b.lanes[l]; });
}
inline F abs(F v) {
  return each([&](std::size_t l) { return std::fabs(v.lanes[l]); });
}
inline F copy_sign(F magnitude, F sign) {
  return each([&](std::size_t l) { return std::copysign(magnitude.lanes[l], sign.lanes[l]); });
}
/// To the nearest whole number, ties to even.
inline F round(F v) {
  return each([&](std::size_t l) { return std::nearbyint(v.lanes[l]); });
}
/// v 2^n for whole n of [-160, 160].
inline F times_power_of_2(F v, F n) {
  return each([&](std::size_t l) { return std::ldexp(v.lanes[l], static_cast<int>(n.lanes[l])); });
}

}  // namespace twin
}  // namespace
}  // namespace pith::kernels
