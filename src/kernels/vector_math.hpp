// SPDX-License-Identifier: MIT
// Element-wise kernels and norms, for any vector vocabulary. Included inside a target region, after vector_rows.hpp.
#pragma once

namespace pith::kernels {
namespace {

/// out[i] = f(x[i], also[i]...)
template <class Function, class... Also>
inline void map(float* out, size_t n, Function f, const float* x, const Also*... also) {
  size_t i = 0;
  for (; i + width <= n; i += width) store(out + i, f(load(x + i), load(also + i)...));
  if (i < n) store_some(out + i, f(load_some(x + i, n - i), load_some(also + i, n - i)...), n - i);
}

/// sum f(x[i], also[i]...), where f of zeros is zero; four accumulators, as nothing else is computed meanwhile.
template <class Function, class... Also>
inline float total(size_t n, Function f, const float* x, const Also*... also) {
  F sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  size_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) sums[v] = f(sums[v], load(x + i + v * width), load(also + i + v * width)...);
  }
  for (; i + width <= n; i += width) sums[0] = f(sums[0], load(x + i), load(also + i)...);
  if (i < n) sums[1] = f(sums[1], load_some(x + i, n - i), load_some(also + i, n - i)...);
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

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

struct Add {
  F operator()(F a, F b) const { return a + b; }
};

struct Subtract {
  F value;
  F operator()(F x) const { return x - value; }
};

struct Multiply {
  F factor;
  F operator()(F x) const { return x * factor; }
};

struct AddProduct {
  F operator()(F sums, F a, F b) const { return fma(a, b, sums); }
};

struct AddSquare {
  F operator()(F sums, F x) const { return fma(x, x, sums); }
};

struct Normalise {
  F factor;
  F operator()(F x, F weight) const { return x * factor * weight; }
};

struct NormaliseAndShift {
  F factor;
  F operator()(F x, F weight, F bias) const { return fma(x * factor, weight, bias); }
};

struct SiluMultiply {
  F operator()(F x, F up) const { return times_sigmoid(x, x) * up; }
};

/// 0.5 (1 + tanh u) is the sigmoid of 2u.
struct GeluTanh {
  F operator()(F x) const {
    const F cubic = fma(x * x * x, splat(0.044715f), x);
    return times_sigmoid(x, cubic * splat(2 * 0.7978845608f));
  }
};

/// x (1 + erf(x / sqrt 2)) / 2, with Numerical Recipes' Chebyshev fit of erfc (erfcc, 1.2e-7 of its value).
struct Gelu {
  F operator()(F x) const {
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

float dot(const float* a, const float* b, size_t n) { return total(n, AddProduct{}, a, b); }

void add(float* y, const float* x, size_t n) { map(y, n, Add{}, y, x); }

void scale(float* x, float factor, size_t n) { map(x, n, Multiply{splat(factor)}, x); }

void rms_norm(const float* x, const float* weight, float eps, size_t n, float* out) {
  const float factor = 1.0f / std::sqrt(total(n, AddSquare{}, x) / static_cast<float>(n) + eps);
  map(out, n, Normalise{splat(factor)}, x, weight);
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, size_t n, float* out) {
  const float mean = total(n, Add{}, x) / static_cast<float>(n);
  map(out, n, Subtract{splat(mean)}, x);
  const float factor = 1.0f / std::sqrt(total(n, AddSquare{}, out) / static_cast<float>(n) + eps);
  map(out, n, NormaliseAndShift{splat(factor)}, out, weight, bias);
}

void silu_multiply(float* x, const float* up, size_t n) { map(x, n, SiluMultiply{}, x, up); }

void gelu_tanh(float* x, size_t n) { map(x, n, GeluTanh{}, x); }

void gelu(float* x, size_t n) { map(x, n, Gelu{}, x); }

float max(const float* x, size_t n) {
  F most = splat(-std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + width <= n; i += width) most = max(most, load(x + i));
  float result = largest(most);
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

float exp_shifted(float* x, float shift, size_t n) {
  F sums = splat(0.0f);
  size_t i = 0;
  for (; i + width <= n; i += width) {
    const F e = exp(load(x + i) - splat(shift));
    store(x + i, e);
    sums = sums + e;
  }
  if (i < n) {
    store_some(x + i, exp(load_some(x + i, n - i) - splat(shift)), n - i);
    sums = sums + load_some(x + i, n - i);
  }
  return sum(sums);
}

}  // namespace
}  // namespace pith::kernels
