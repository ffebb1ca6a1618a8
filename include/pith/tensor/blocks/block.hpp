// SPDX-License-Identifier: MIT
// What a block type, by which a row of numbers lies in memory, says of itself.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace pith::inline tensor {

/// Of a format of storage:
///   name: as options and files spell it, in small letters;
///   ggml_type: its number in a GGUF; dtype: its name in safetensors, where those have it;
///   values: numbers per block;
///   Activation: what it is multiplied with, float or q8_activation;
///   Fallback: the blocks of rows that are no multiple of `values`, as llama.cpp has it; where there is none, f16;
///   decode(block, out[values]); encode(in[values], block).
template <class B>
struct BlockTraits;

template <class B>
concept Block = std::is_trivially_copyable_v<B> && requires(const B& block, B& out, float* values, const float* in) {
  { BlockTraits<B>::name } -> std::convertible_to<std::string_view>;
  { BlockTraits<B>::ggml_type } -> std::convertible_to<std::uint32_t>;
  { BlockTraits<B>::values } -> std::convertible_to<int>;
  typename BlockTraits<B>::Activation;
  BlockTraits<B>::decode(block, values);
  BlockTraits<B>::encode(in, out);
};

}  // namespace pith::inline tensor
