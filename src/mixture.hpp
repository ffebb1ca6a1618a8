// SPDX-License-Identifier: MIT
// Formats that differ from tensor to tensor.
#pragma once

#include <cstddef>
#include <string_view>

#include "pith/nn/config.hpp"
#include "pith/nn/parameters.hpp"
#include "pith/tensor/format.hpp"

namespace pith {

/// A mixture of llama.cpp's, as its llama-quantize makes it of dense models without a matrix of importance. The head,
/// or the embedding where that is the head, is q6_k in all. Its exceptions for models of 70B parameters and for Falcon
/// are not made here.
struct Mixture {
  /// Of one layer's matrix, by its place among all layers.
  using Rule = Format (*)(std::size_t layer, std::size_t layers);

  std::string_view name;
  Format most;  // of what has no rule
  Rule value;   // of wv, or what is stored together with it
  Rule down;    // of mlp_down
  Format out;   // of wo

  Format format_of(const Parameter& parameter, const Config& config) const;
};

/// Throws Error (unsupported), naming those there are.
const Mixture& mixture_named(std::string_view name);

}  // namespace pith
