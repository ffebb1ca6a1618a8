// SPDX-License-Identifier: MIT
// Storage formats: how numbers lie in memory. A format is a block type, which says of itself what there is to say
// (BlockTraits), and its place in the list below, from which everything else that knows formats follows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "pith/tensor/blocks/block.hpp"
#include "pith/tensor/blocks/iq4_nl.hpp"
#include "pith/tensor/blocks/iq4_xs.hpp"
#include "pith/tensor/blocks/mxfp4.hpp"
#include "pith/tensor/blocks/numbers.hpp"
#include "pith/tensor/blocks/q2_k.hpp"
#include "pith/tensor/blocks/q3_k.hpp"
#include "pith/tensor/blocks/q4_0.hpp"
#include "pith/tensor/blocks/q4_1.hpp"
#include "pith/tensor/blocks/q4_k.hpp"
#include "pith/tensor/blocks/q5_0.hpp"
#include "pith/tensor/blocks/q5_1.hpp"
#include "pith/tensor/blocks/q5_k.hpp"
#include "pith/tensor/blocks/q6_k.hpp"
#include "pith/tensor/blocks/q8_0.hpp"

namespace pith::inline tensor {

template <class... T>
struct TypeList {
  static constexpr std::size_t size = sizeof...(T);
  template <template <class...> class Of>
  using as = Of<T...>;
};

/// Every format, its name and its block type, in the same order.
enum class Format : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q5_1,
  q5_0,
  q4_1,
  q4_0,
  q6_k,
  q5_k,
  q4_k,
  q3_k,
  q2_k,
  iq4_nl,
  iq4_xs,
  mxfp4
};
using Formats =
    TypeList<float, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, q6_k, q5_k, q4_k, q3_k, q2_k, iq4_nl, iq4_xs, mxfp4>;

inline constexpr int format_count = static_cast<int>(Formats::size);

inline constexpr auto all_formats = [] {
  std::array<Format, Formats::size> formats{};
  for (std::size_t i = 0; i < formats.size(); ++i) formats[i] = static_cast<Format>(i);
  return formats;
}();

/// The format of blocks B.
template <Block B>
inline constexpr Format format_of = []<class... T>(TypeList<T...>) {
  static_assert((std::is_same_v<B, T> || ...), "a block type that is not in Formats");
  std::size_t place = 0;
  (void)((!std::is_same_v<B, T> && (++place, true)) && ...);
  return static_cast<Format>(place);
}(Formats());

/// The one place where a run-time format becomes a type: calls `f.template operator()<B>()`.
template <class F, Block First, Block... Others>
constexpr decltype(auto) visit(Format format, F&& f, TypeList<First, Others...>) {
  if constexpr (sizeof...(Others) > 0)
    if (format != format_of<First>) return visit(format, std::forward<F>(f), TypeList<Others...>());
  return std::forward<F>(f).template operator()<First>();
}
template <class F>
constexpr decltype(auto) visit(Format format, F&& f) {
  return visit(format, std::forward<F>(f), Formats());
}

constexpr std::string_view name(Format format) {
  return visit(format, []<Block B>() { return BlockTraits<B>::name; });
}

/// The format whose block type answers true: calls `is.template operator()<B>()`.
template <class Is>
constexpr std::optional<Format> find_format(Is is) {
  for (const Format format : all_formats)
    if (visit(format, is)) return format;
  return std::nullopt;
}

constexpr std::optional<Format> format_named(std::string_view wanted) {
  return find_format([&]<Block B>() { return BlockTraits<B>::name == wanted; });
}

/// Its name in safetensors; empty where those do not have it.
constexpr std::string_view dtype(Format format) {
  return visit(format, []<Block B>() -> std::string_view {
    if constexpr (requires { BlockTraits<B>::dtype; }) return BlockTraits<B>::dtype;
    return {};
  });
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
template <Block B>
constexpr std::size_t row_bytes(std::size_t n) {
  return n / BlockTraits<B>::values * sizeof(B);
}

/// `wanted`, or what rows of n numbers that are no multiple of its blocks are stored in.
constexpr Format fitting(Format wanted, std::size_t n) {
  if (n % static_cast<std::size_t>(block_values(wanted)) == 0) return wanted;
  return visit(wanted, [&]<Block B>() {
    if constexpr (requires { typename BlockTraits<B>::Fallback; })
      return fitting(format_of<typename BlockTraits<B>::Fallback>, n);
    else
      return Format::f16;
  });
}

/// Are weights of the format multiplied with activations in blocks of bytes, not with floats?
constexpr bool wants_quantised(Format format) {
  return visit(format, []<Block B>() { return std::is_same_v<typename BlockTraits<B>::Activation, q8_activation>; });
}

}  // namespace pith::inline tensor
