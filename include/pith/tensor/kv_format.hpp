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
#include <string>
#include <string_view>
#include <utility>

#include "pith/tensor/format.hpp"

namespace pith::inline tensor {

/// Every format of the cache, its name and its block type, in the same order.
enum class KvFormat : std::uint8_t { f32, f16, bf16, q8_0, q4_0 };
using KvFormats = TypeList<float, f16, bf16, q8_0, q4_0>;

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
template <>
inline constexpr float overflow_of<q4_0> = 8 * overflow_of<f16>;

/// Whether keys are spread before they are stored, and queries with them (ops::hadamard): a few large numbers, which
/// keys have always in the same channels, would leave four bits nothing for the others.
template <class B>
inline constexpr bool spreads_keys_of = false;
template <>
inline constexpr bool spreads_keys_of<q4_0> = true;

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

/// Whether the format's keys are spread before they are stored.
constexpr bool spreads_keys(KvFormat format) {
  return visit(format, []<Block B>() { return spreads_keys_of<B>; });
}

/// How keys are stored, and how values; one format stands for both.
struct KvPair {
  KvFormat keys, values;

  constexpr KvPair(KvFormat both) : keys(both), values(both) {}  // NOLINT(google-explicit-constructor)
  constexpr KvPair(KvFormat k, KvFormat v) : keys(k), values(v) {}
  constexpr bool operator==(const KvPair&) const = default;
};

/// "q8_0", or "k=q8_0,v=q4_0" where they differ.
inline std::string name(const KvPair& kv) {
  if (kv.keys == kv.values) return std::string(name(kv.keys));
  return "k=" + std::string(name(kv.keys)) + ",v=" + std::string(name(kv.values));
}

/// What name() says, in either order.
constexpr std::optional<KvPair> kv_pair_named(std::string_view wanted) {
  if (const auto both = kv_format_named(wanted)) return *both;
  const auto comma = wanted.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto one = [&](std::string_view side) -> std::optional<KvFormat> {
    for (const std::string_view part : {wanted.substr(0, comma), wanted.substr(comma + 1)})
      if (part.starts_with(side)) return kv_format_named(part.substr(side.size()));
    return std::nullopt;
  };
  const auto keys = one("k="), values = one("v=");
  if (!keys || !values) return std::nullopt;
  return KvPair{*keys, *values};
}

/// Numbers that a row must be made of a multiple of.
constexpr int block_values(const KvPair& kv) {
  return block_values(kv.keys) > block_values(kv.values) ? block_values(kv.keys) : block_values(kv.values);
}

}  // namespace pith::inline tensor
