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

namespace pith::inline tensor {

enum class Format : std::uint8_t { f32, f16, bf16, q8_0, q4_0, q4_k, q6_k };
inline constexpr int format_count = 7;

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

/// 32 values as a scale and nibbles (ggml's Q4_0): value[i] = scale * (nibble[i] - 8), where byte i holds nibbles i
/// (low) and i + 16 (high).
struct q4_0 {
  f16 scale;
  std::uint8_t nibbles[16];
};

/// 256 values in 8 parts of 32, each with a scale and a minimum of its own, of six bits (ggml's Q4_K):
/// value[i] = scale * part_scale * nibble[i] - min * part_min. Of 64 values, byte i holds nibbles i (low) and i + 32
/// (high). How `parts` holds the twelve-bit pairs: part_of().
struct q4_k {
  f16 scale, min;
  std::uint8_t parts[12];
  std::uint8_t nibbles[128];
};

/// 256 values of six bits in 16 parts of 16, each with a signed scale (ggml's Q6_K):
/// value[i] = scale * part_scales[i / 16] * (quant[i] - 32). Of 128 values, low four bits: byte i < 64 holds those of i
/// (low) and of i + 64 (high); high two bits: byte i < 32 holds those of i, i + 32, i + 64, i + 96 from the lowest on.
struct q6_k {
  std::uint8_t nibbles[128];
  std::uint8_t upper[64];
  std::int8_t part_scales[16];
  f16 scale;
};

/// 32 activations, as the kernels of weights in blocks take them: value[i] = scale * quants[i].
struct q8_activation {
  float scale;
  std::int16_t sums[2];  // of the quants, of each half
  std::int8_t quants[32];
};

static_assert(sizeof(f16) == 2 && sizeof(bf16) == 2 && sizeof(q8_0) == 34 && alignof(q8_0) == 2);
static_assert(sizeof(q4_0) == 18 && sizeof(q4_k) == 144 && sizeof(q6_k) == 210 && alignof(q6_k) == 2);
static_assert(sizeof(q8_activation) == 40);

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

/// The integers that scale one of a q4_k's parts, 0 to 63.
struct PartScales {
  int scale, min;
};

constexpr PartScales part_of(const q4_k& block, int part) {
  const std::uint8_t* p = block.parts;
  if (part < 4) return {p[part] & 63, p[part + 4] & 63};
  return {(p[part + 4] & 15) | (p[part - 4] >> 6 << 4), (p[part + 4] >> 4) | (p[part] >> 6 << 4)};
}

/// What a block type must say of itself:
///   format, name; values: numbers per block; Activation: the type of the vector it is multiplied with;
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
  using Activation = q8_activation;
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

/// Not a format of storage: it has no name.
template <>
struct BlockTraits<q8_activation> {
  static constexpr int values = 32;
  static void decode(const q8_activation& block, float* out) {
    for (int i = 0; i < values; ++i) out[i] = block.scale * static_cast<float>(block.quants[i]);
  }
  static void encode(const float* in, q8_activation& block) {
    float largest = 0;
    for (int i = 0; i < values; ++i) largest = std::fmax(largest, std::fabs(in[i]));
    block.scale = largest / 127.0f;
    const float inverse = block.scale > 1e-30f ? 1.0f / block.scale : 0.0f;  // 1 / scale may overflow
    block.sums[0] = block.sums[1] = 0;
    for (int i = 0; i < values; ++i) {
      const float quant = std::fmin(std::fmax(std::nearbyint(in[i] * inverse), -127.0f), 127.0f);  // NaN gives -127
      block.quants[i] = static_cast<std::int8_t>(quant);
      std::int16_t& sum = block.sums[i / 16];
      sum = static_cast<std::int16_t>(sum + block.quants[i]);
    }
  }
};

template <>
struct BlockTraits<q4_0> {
  static constexpr Format format = Format::q4_0;
  static constexpr std::string_view name = "q4_0";
  static constexpr int values = 32;
  using Activation = q8_activation;
  static void decode(const q4_0& block, float* out) {
    const float scale = to_float(block.scale);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * static_cast<float>((block.nibbles[i] & 15) - 8);
      out[i + 16] = scale * static_cast<float>((block.nibbles[i] >> 4) - 8);
    }
  }
  static void encode(const float* in, q4_0& block);  // the largest magnitude becomes -8, exactly
};

template <>
struct BlockTraits<q4_k> {
  static constexpr Format format = Format::q4_k;
  static constexpr std::string_view name = "q4_k";
  static constexpr int values = 256;
  using Activation = q8_activation;
  static void decode(const q4_k& block, float* out) {
    for (int part = 0; part < 8; ++part) {
      const PartScales integers = part_of(block, part);
      const float scale = to_float(block.scale) * static_cast<float>(integers.scale);
      const float min = to_float(block.min) * static_cast<float>(integers.min);
      for (int i = 0; i < 32; ++i) {
        const int nibble = block.nibbles[part / 2 * 32 + i] >> (part % 2 * 4) & 15;
        out[part * 32 + i] = scale * static_cast<float>(nibble) - min;
      }
    }
  }
  static void encode(const float* in, q4_k& block);  // searches for the least squared error
};

template <>
struct BlockTraits<q6_k> {
  static constexpr Format format = Format::q6_k;
  static constexpr std::string_view name = "q6_k";
  static constexpr int values = 256;
  using Activation = q8_activation;
  static void decode(const q6_k& block, float* out) {
    for (int i = 0; i < values; ++i) {
      const int half = i / 128, k = i % 128;
      const int low = block.nibbles[half * 64 + k % 64] >> (k / 64 * 4) & 15;
      const int high = block.upper[half * 32 + k % 32] >> (k / 32 * 2) & 3;
      const float scale = to_float(block.scale) * static_cast<float>(block.part_scales[i / 16]);
      out[i] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }
  static void encode(const float* in, q6_k& block);  // searches for the least squared error
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
    case Format::q4_0:
      return std::forward<F>(f).template operator()<q4_0>();
    case Format::q4_k:
      return std::forward<F>(f).template operator()<q4_k>();
    case Format::q6_k:
      return std::forward<F>(f).template operator()<q6_k>();
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

}  // namespace pith::inline tensor
