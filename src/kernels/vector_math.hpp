// SPDX-License-Identifier: MIT
// Elementwise kernels and norms, for any vector vocabulary. Included inside a target region, after vector_rows.hpp and
// elementwise.hpp.
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

struct Add {
  F operator()(F a, F b) const { return a + b; }
};

struct Subtract {
  F value;
  F operator()(F x) const { return x - value; }
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

// Not lambdas, which g++ compiles without the target region's instructions where templates are instantiated after it.
template <class Of>
struct OfOne {
  F operator()(F x) const { return Of::vector(x); }
};

template <class Of>
struct OfTwo {
  F operator()(F x, F other) const { return Of::vector(x, other); }
};

template <class Of>
struct WithNumber {
  float number;
  F operator()(F x) const { return Of::vector(x, number); }
};

template <Elementwise operation>
struct Mapped {
  using Of = Formula<operation>;
  static void run(float* x, const float* other, float number, size_t n) {
    if constexpr (takes(Of::vector) == Takes::nothing) map(x, n, OfOne<Of>{}, x);
    if constexpr (takes(Of::vector) == Takes::other) map(x, n, OfTwo<Of>{}, x, other);
    if constexpr (takes(Of::vector) == Takes::number) map(x, n, WithNumber<Of>{number}, x);
  }
};

float dot(const float* a, const float* b, size_t n) { return total(n, AddProduct{}, a, b); }

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

/// 1 in lanes whose number has not the bit `apart`, -1 in the others.
template <size_t apart>
struct Signs {
  alignas(64) float lanes[width] = {};
  constexpr Signs() {
    for (size_t l = 0; l < width; ++l) lanes[l] = (l & apart) == 0 ? 1.0f : -1.0f;
  }
};
template <size_t apart>
constexpr Signs<apart> signs;

/// The stages of a Walsh-Hadamard transform that stay within a vector: of lanes `apart`, sum and difference, and so on.
template <size_t apart>
inline F butterflies(F v) {
  v = fma(v, load(signs<apart>.lanes), swapped<apart>(v));
  if constexpr (2 * apart < width) v = butterflies<2 * apart>(v);
  return v;
}

void hadamard(float* x, size_t n) {
  for (size_t size = 0; n > 0; x += size, n -= size) {
    size = 1;
    while (2 * size <= n) size *= 2;
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    size_t apart = size < width ? 1 : width;
    for (; apart < size && apart < width; apart *= 2)
      for (size_t i = 0; i < size; ++i)
        if ((i & apart) == 0) {
          const float a = x[i], b = x[i + apart];
          x[i] = a + b;
          x[i + apart] = a - b;
        }
    for (size_t i = 0; i + width <= size; i += width) store(x + i, butterflies<1>(load(x + i)));
    for (; apart < size; apart *= 2)
      for (size_t begin = 0; begin < size; begin += 2 * apart)
        for (size_t i = begin; i < begin + apart; i += width) {
          const F a = load(x + i), b = load(x + i + apart);
          store(x + i, a + b);
          store(x + i + apart, a - b);
        }
    for (size_t i = 0; i < size; ++i) x[i] *= scale;
  }
}

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
