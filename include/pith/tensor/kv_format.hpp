// SPDX-License-Identifier: MIT
// How keys and values are stored: those formats that a row can be written in quickly, number by number or in small
// blocks.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "pith/tensor/format.hpp"

namespace pith::inline tensor {

/// Every format of the cache, its name and its block type, in the same order.
enum class KvFormat : std::uint8_t { f32, f16, bf16, q8_0 };
using KvFormats = TypeList<float, f16, bf16, q8_0>;

inline constexpr auto kv_formats = [] {
  std::array<KvFormat, KvFormats::size> formats{};
  for (std::size_t i = 0; i < formats.size(); ++i) formats[i] = static_cast<KvFormat>(i);
  return formats;
}();

/// The least magnitude that a block of the cache makes infinite.
template <class B>
inline constexpr float overflow_of = std::numeric_limits<float>::infinity();
template <>
inline constexpr float overflow_of<f16> = 65520;  // halfway from the largest, 65504, to what would be the next
template <>
inline constexpr float overflow_of<bf16> = std::bit_cast<float>(0x7f7f8000u);  // halfway, too
template <>
inline constexpr float overflow_of<q8_0> = 127 * overflow_of<f16>;  // its scale is an f16

/// The format of storage whose blocks a row consists of.
constexpr Format storage(KvFormat format) {
  return []<class... B>(KvFormat at, TypeList<B...>) {
    constexpr Format all[] = {format_of<B>...};
    return all[static_cast<std::size_t>(at)];
  }(format, KvFormats());
}

/// The one place where a run-time cache format becomes a type: calls `f.template operator()<B>()`.
template <class F, Block First, Block... Others>
constexpr decltype(auto) visit(KvFormat format, F&& f, TypeList<First, Others...>) {
  if constexpr (sizeof...(Others) > 0)
    if (storage(format) != format_of<First>) return visit(format, std::forward<F>(f), TypeList<Others...>());
  return std::forward<F>(f).template operator()<First>();
}
template <class F>
constexpr decltype(auto) visit(KvFormat format, F&& f) {
  return visit(format, std::forward<F>(f), KvFormats());
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
  return visit(format, []<Block B>() { return overflow_of<B>; });
}

}  // namespace pith::inline tensor
