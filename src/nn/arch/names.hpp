// SPDX-License-Identifier: MIT
// How files spell the names of parameters.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "pith/nn/parameters.hpp"

namespace pith::inline nn {

/// One tensor of a file: a parameter, or several below each other; those of experts that its name does not tell apart
/// are [experts, rows, cols].
struct TensorName {
  enum class Layout {
    out_in,  // [out_features, in_features]
    in_out,  // GPT-2's Conv1D
  };

  std::string_view pattern;  // without the parameter's suffix; {} stands for the layer, a second one for the expert
  std::span<const Role> roles;
  Layout layout = Layout::out_in;

  bool holds(Role role) const { return std::ranges::find(roles, role) != roles.end(); }
};

/// The roles of a TensorName, top first.
template <Role... Rs>
inline constexpr Role roles[] = {Rs...};

/// The names that most models have in Hugging Face's files; a Family has its own for the others.
std::span<const TensorName> hugging_face_names();

/// The names that most models have in GGUF files, the likelier of two first; a Family has its own for the others.
std::span<const TensorName> gguf_names();

/// The pattern with its holes filled.
std::string filled(std::string_view pattern, std::optional<std::size_t> layer, std::optional<std::size_t> expert = {});
inline std::string filled(std::string_view pattern, const Parameter& p) {
  return filled(pattern, p.layer, p.expert).append(p.suffix);
}

/// Whether its name tells the expert.
bool names_expert(std::string_view pattern);

/// What stands in a name in the place of a pattern's holes.
struct Numbers {
  std::optional<std::size_t> layer, expert;
};

/// Whether a tensor's name, with whatever suffix, follows the pattern, and by which numbers.
bool follows(std::string_view name, std::string_view pattern, Numbers* numbers = nullptr);

/// Tensors that real files have and no model needs: what can be computed, and buffers of other programs.
bool is_harmless(std::string_view name);

}  // namespace pith::inline nn
