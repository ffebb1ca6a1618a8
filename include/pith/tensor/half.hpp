// SPDX-License-Identifier: MIT
// Numbers of 16 bits, and their way to and from float.
#pragma once

#include <bit>
#include <cstdint>

namespace pith::inline tensor {

/// IEEE 754 binary16.
struct f16 {
  std::uint16_t bits;
};

/// The upper half of an IEEE 754 binary32.
struct bf16 {
  std::uint16_t bits;
};

static_assert(sizeof(f16) == 2 && sizeof(bf16) == 2);

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

}  // namespace pith::inline tensor
