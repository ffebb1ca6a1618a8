// SPDX-License-Identifier: MIT
// How keys and values are stored: those formats that a row can be written in quickly, number by number or in small
// blocks.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "pith/tensor/format.hpp"

namespace pith::inline tensor {

enum class KvFormat : std::uint8_t { f32, f16, bf16, q8_0 };
inline constexpr KvFormat kv_formats[] = {KvFormat::f32, KvFormat::f16, KvFormat::bf16, KvFormat::q8_0};

/// What a block type says of itself as a format of the cache. overflow: the least magnitude that becomes infinite.
template <class B>
struct KvTraits;

template <>
struct KvTraits<float> {
  static constexpr KvFormat format = KvFormat::f32;
  static constexpr float overflow = std::numeric_limits<float>::infinity();
};

template <>
struct KvTraits<f16> {
  static constexpr KvFormat format = KvFormat::f16;
  static constexpr float overflow = 65520;  // halfway from the largest, 65504, to what would be the next
};

template <>
struct KvTraits<bf16> {
  static constexpr KvFormat format = KvFormat::bf16;
  static constexpr float overflow = std::bit_cast<float>(0x7f7f8000u);  // halfway, too
};

template <>
struct KvTraits<q8_0> {
  static constexpr KvFormat format = KvFormat::q8_0;
  static constexpr float overflow = 127 * KvTraits<f16>::overflow;  // its scale is an f16
};

template <class B>
concept KvBlock = Block<B> && requires {
  { KvTraits<B>::format } -> std::convertible_to<KvFormat>;
  { KvTraits<B>::overflow } -> std::convertible_to<float>;
};

/// The one place where a run-time cache format becomes a type: calls `f.template operator()<B>()`.
template <class F>
constexpr decltype(auto) visit(KvFormat format, F&& f) {
  switch (format) {
    case KvFormat::f16:
      return std::forward<F>(f).template operator()<f16>();
    case KvFormat::bf16:
      return std::forward<F>(f).template operator()<bf16>();
    case KvFormat::q8_0:
      return std::forward<F>(f).template operator()<q8_0>();
    case KvFormat::f32:
      break;
  }
  return std::forward<F>(f).template operator()<float>();
}

/// The format of storage whose blocks a row consists of.
constexpr Format storage(KvFormat format) {
  return visit(format, []<KvBlock B>() { return format_of<B>; });
}

constexpr std::string_view name(KvFormat format) { return name(storage(format)); }

constexpr std::optional<KvFormat> kv_format_named(std::string_view wanted) {
  for (const KvFormat format : kv_formats)
    if (name(format) == wanted) return format;
  return std::nullopt;
}

/// Numbers per block.
constexpr int block_values(KvFormat format) { return block_values(storage(format)); }

/// Bytes of a row of `n` numbers; n is a multiple of block_values(format).
constexpr std::size_t row_bytes(KvFormat format, std::size_t n) { return row_bytes(storage(format), n); }

/// The least magnitude that the format makes infinite.
constexpr float overflow(KvFormat format) {
  return visit(format, []<KvBlock B>() { return KvTraits<B>::overflow; });
}

}  // namespace pith::inline tensor
