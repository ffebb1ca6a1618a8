// SPDX-License-Identifier: MIT
// The elementwise operations: each formula once for a number, its plain twin, and once in the vocabulary. Included
// inside a target region, after the vocabulary.
#pragma once

#include <cmath>

#include "pith/tensor/ops.hpp"

namespace pith::kernels {
namespace {

/// e^x to about 1e-7 of it. With x = n ln 2 + r, |r| <= ln 2 / 2: 2^n times the Taylor polynomial of e^r, whose eighth
/// term is below 6e-9. Beyond the limits 2^n itself gives infinity and zero.
inline F exp(F x) {
  x = max(splat(-105.0f), min(splat(89.0f), x));  // a NaN passes: it is the second operand
  const F n = round(x * splat(1.44269504f));
  F r = fma(n, splat(-0.693359375f), x);  // ln 2 in two parts, the first of few bits so that n times it is exact
  r = fma(n, splat(2.12194440e-4f), r);
  F p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return times_power_of_2(p, n);
}

/// x / (1 + e^-z)
inline F times_sigmoid(F x, F z) { return x / (splat(1.0f) + exp(splat(0.0f) - z)); }

/// tanh x to about 4e-7 of it, small ones too: Lambert's continued fraction down to 13 at x / 4 as a quotient N / D,
/// doubled twice by tanh 2y = 2ND / (D^2 + N^2).
inline F tanh(F x) {
  x = max(splat(-9.0f), min(splat(9.0f), x));  // beyond, it rounds to 1; a NaN passes
  const F y = x * splat(0.25f), s = y * y;
  F n = fma(s, splat(1.0f / 135135), splat(378.0f / 135135));
  n = fma(n, s, splat(17325.0f / 135135));
  n = y * fma(n, s, splat(1.0f));
  F d = fma(s, splat(28.0f / 135135), splat(3150.0f / 135135));
  d = fma(d, s, splat(62370.0f / 135135));
  d = fma(d, s, splat(1.0f));
  const F n_2 = splat(2.0f) * n * d, d_2 = fma(d, d, n * n);
  const F result = splat(2.0f) * n_2 * d_2 / fma(d_2, d_2, n_2 * n_2);
  return max(splat(-1.0f), min(splat(1.0f), result));
}

/// What an operation computes: plain() of one number, vector() of many. Both take x, or x and the other vector's, or x
/// and the one number that the operation was given, which is a float to vector() too.
template <Elementwise operation>
struct Formula;

template <>
struct Formula<Elementwise::add> {
  static float plain(float x, float other) { return x + other; }
  static F vector(F x, F other) { return x + other; }
};

template <>
struct Formula<Elementwise::scale> {
  static float plain(float x, float factor) { return x * factor; }
  static F vector(F x, float factor) { return x * splat(factor); }
};

template <>
struct Formula<Elementwise::silu> {
  static float plain(float x) { return x / (1.0f + std::exp(-x)); }
  static F vector(F x) { return times_sigmoid(x, x); }
};

template <>
struct Formula<Elementwise::silu_multiply> {
  static float plain(float x, float up) { return Formula<Elementwise::silu>::plain(x) * up; }
  static F vector(F x, F up) { return Formula<Elementwise::silu>::vector(x) * up; }
};

/// 0.5 (1 + tanh u) is the sigmoid of 2u.
template <>
struct Formula<Elementwise::gelu_tanh> {
  static float plain(float x) {
    const float inner = 0.7978845608f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + std::tanh(inner));
  }
  static F vector(F x) {
    const F cubic = fma(x * x * x, splat(0.044715f), x);
    return times_sigmoid(x, cubic * splat(2 * 0.7978845608f));
  }
};

/// x (1 + erf(x / sqrt 2)) / 2, with Numerical Recipes' Chebyshev fit of erfc (erfcc, 1.2e-7 of its value).
template <>
struct Formula<Elementwise::gelu> {
  static float plain(float x) { return 0.5f * x * (1.0f + std::erf(x * 0.7071067812f)); }
  static F vector(F x) {
    const F z = abs(x) * splat(0.7071067812f);
    const F t = splat(1.0f) / fma(z, splat(0.5f), splat(1.0f));
    F p = splat(0.17087277f);
    p = fma(p, t, splat(-0.82215223f));
    p = fma(p, t, splat(1.48851587f));
    p = fma(p, t, splat(-1.13520398f));
    p = fma(p, t, splat(0.27886807f));
    p = fma(p, t, splat(-0.18628806f));
    p = fma(p, t, splat(0.09678418f));
    p = fma(p, t, splat(0.37409196f));
    p = fma(p, t, splat(1.00002368f));
    p = fma(p, t, splat(-1.26551223f));
    const F erfc = t * exp(p - z * z);
    return x * (splat(0.5f) + copy_sign(splat(0.5f) - splat(0.5f) * erfc, x));
  }
};

template <>
struct Formula<Elementwise::gelu_tanh_multiply> {
  static float plain(float x, float up) { return Formula<Elementwise::gelu_tanh>::plain(x) * up; }
  static F vector(F x, F up) { return Formula<Elementwise::gelu_tanh>::vector(x) * up; }
};

template <>
struct Formula<Elementwise::gelu_multiply> {
  static float plain(float x, float up) { return Formula<Elementwise::gelu>::plain(x) * up; }
  static F vector(F x, F up) { return Formula<Elementwise::gelu>::vector(x) * up; }
};

template <>
struct Formula<Elementwise::soft_cap> {
  static float plain(float x, float cap) { return cap * std::tanh(x / cap); }
  static F vector(F x, float cap) { return splat(cap) * tanh(x / splat(cap)); }
};

/// What a formula takes beside x.
enum class Takes { nothing, other, number };
constexpr Takes takes(F (*)(F)) { return Takes::nothing; }
constexpr Takes takes(F (*)(F, F)) { return Takes::other; }
constexpr Takes takes(F (*)(F, float)) { return Takes::number; }

template <template <Elementwise> class Kernel, std::size_t... operation>
constexpr Table::ElementwiseKernels kernels_of_each(std::index_sequence<operation...>) {
  return {Kernel<static_cast<Elementwise>(operation)>::run...};
}

/// Kernel<operation>::run for every operation.
template <template <Elementwise> class Kernel>
constexpr Table::ElementwiseKernels elementwise_kernels =
    kernels_of_each<Kernel>(std::make_index_sequence<elementwise_count>());

}  // namespace
}  // namespace pith::kernels
