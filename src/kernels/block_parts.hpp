// SPDX-License-Identifier: MIT
// What the vocabularies know of weights in blocks.
#pragma once

#include "pith/tensor/format.hpp"

namespace pith::kernels {

/// How much more than its value a quant is as it is stored, where it is stored without a sign.
template <Block B>
inline constexpr int offset = 0;
template <>
inline constexpr int offset<q4_0> = 8;
template <>
inline constexpr int offset<q6_k> = 32;

/// Does each half of a part have an integer scale of its own?
template <Block B>
inline constexpr bool has_halves = std::is_same_v<B, q6_k>;

}  // namespace pith::kernels
