// SPDX-License-Identifier: MIT
// Storage formats: how numbers lie in memory. A format is a block type and its BlockTraits.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pith {

enum class Format : std::uint8_t { f32, f16, bf16, q8_0 };
inline constexpr int format_count = 4;

/// IEEE 754 binary16.
struct f16 {
  std::uint16_t bits;
};

/// The upper half of an IEEE 754 binary32.
struct bf16 {
  std::uint16_t bits;
};

/// 32 values as a scale and signed bytes (ggml's Q8_0): value[i] = scale * quants[i].
struct q8_0 {
  f16 scale;
  std::int8_t quants[32];
};

static_assert(sizeof(f16) == 2 && sizeof(bf16) == 2 && sizeof(q8_0) == 34 && alignof(q8_0) == 2);

constexpr float to_float(float x) { return x; }

constexpr float to_float(bf16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

constexpr float to_float(f16 x) {
  const std::uint32_t sign = (x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  // Multiplying by 2^112 rebiases the exponent, subnormals included.
  const float scaled = std::bit_cast<float>(magnitude << 13) * std::bit_cast<float>(0x77800000u);
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

/// Rounds to nearest, ties to even; NaN stays NaN.
constexpr bf16 to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// Rounds to nearest, ties to even; overflows to infinity; NaN stays NaN.
constexpr f16 to_f16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const auto make = [sign](std::uint32_t m) { return f16{static_cast<std::uint16_t>(sign | m)}; };
  if (magnitude > 0x7f800000u) return make(0x7e00u);
  if (magnitude >= 0x477ff000u) return make(0x7c00u);  // rounds beyond 65504
  if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 0.5 lets the float unit round at the last subnormal bit, 2^-24.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return make(std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f));
  }
  return make((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
}

/// What a block type must say of itself:
///   format, name; values: numbers per block; Activation: the block type of the vector it is multiplied with;
///   decode(block, out[values]); encode(in[values], block).
template <class B>
struct BlockTraits;

template <>
struct BlockTraits<float> {
  static constexpr Format format = Format::f32;
  static constexpr std::string_view name = "f32";
  static constexpr int values = 1;
  using Activation = float;
  static void decode(const float& block, float* out) { *out = block; }
  static void encode(const float* in, float& block) { block = *in; }
};

template <>
struct BlockTraits<f16> {
  static constexpr Format format = Format::f16;
  static constexpr std::string_view name = "f16";
  static constexpr int values = 1;
  using Activation = float;
  static void decode(const f16& block, float* out) { *out = to_float(block); }
  static void encode(const float* in, f16& block) { block = to_f16(*in); }
};

template <>
struct BlockTraits<bf16> {
  static constexpr Format format = Format::bf16;
  static constexpr std::string_view name = "bf16";
  static constexpr int values = 1;
  using Activation = float;
  static void decode(const bf16& block, float* out) { *out = to_float(block); }
  static void encode(const float* in, bf16& block) { block = to_bf16(*in); }
};

template <>
struct BlockTraits<q8_0> {
  static constexpr Format format = Format::q8_0;
  static constexpr std::string_view name = "q8_0";
  static constexpr int values = 32;
  using Activation = q8_0;
  static void decode(const q8_0& block, float* out) {
    const float scale = to_float(block.scale);
    for (int i = 0; i < values; ++i) out[i] = scale * static_cast<float>(block.quants[i]);
  }
  static void encode(const float* in, q8_0& block) {
    float largest = 0;
    for (int i = 0; i < values; ++i) largest = std::fmax(largest, std::fabs(in[i]));
    const float scale = largest / 127.0f;
    const float inverse =
        scale > 1e-30f ? 1.0f / scale : 0.0f;  // smaller ones are zero as f16, and 1 / scale may overflow
    block.scale = to_f16(scale);
    for (int i = 0; i < values; ++i) {
      const float quant = std::fmin(std::fmax(std::nearbyint(in[i] * inverse), -127.0f), 127.0f);  // NaN gives -127
      block.quants[i] = static_cast<std::int8_t>(quant);
    }
  }
};

template <class B>
concept Block = std::is_trivially_copyable_v<B> && requires(const B& block, B& out, float* values, const float* in) {
  { BlockTraits<B>::format } -> std::convertible_to<Format>;
  { BlockTraits<B>::name } -> std::convertible_to<std::string_view>;
  { BlockTraits<B>::values } -> std::convertible_to<int>;
  typename BlockTraits<B>::Activation;
  BlockTraits<B>::decode(block, values);
  BlockTraits<B>::encode(in, out);
};

/// The one place where a run-time format becomes a type: calls `f.template operator()<B>()`.
template <class F>
constexpr decltype(auto) visit(Format format, F&& f) {
  switch (format) {
    case Format::f16:
      return std::forward<F>(f).template operator()<f16>();
    case Format::bf16:
      return std::forward<F>(f).template operator()<bf16>();
    case Format::q8_0:
      return std::forward<F>(f).template operator()<q8_0>();
    case Format::f32:
      break;
  }
  return std::forward<F>(f).template operator()<float>();
}

constexpr std::string_view name(Format format) {
  return visit(format, []<Block B>() { return BlockTraits<B>::name; });
}

constexpr std::optional<Format> format_named(std::string_view wanted) {
  for (int i = 0; i < format_count; ++i)
    if (name(static_cast<Format>(i)) == wanted) return static_cast<Format>(i);
  return std::nullopt;
}

/// Numbers per block.
constexpr int block_values(Format format) {
  return visit(format, []<Block B>() { return BlockTraits<B>::values; });
}

/// Bytes of one block.
constexpr std::size_t block_bytes(Format format) {
  return visit(format, []<Block B>() { return sizeof(B); });
}

/// Bytes of a row of `n` numbers; n is a multiple of block_values(format).
constexpr std::size_t row_bytes(Format format, std::size_t n) {
  return n / static_cast<std::size_t>(block_values(format)) * block_bytes(format);
}

}  // namespace pith
