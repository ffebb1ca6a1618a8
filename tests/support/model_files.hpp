// SPDX-License-Identifier: MIT
// Models as files of either container: every tensor that a config's model uses, filled with counted numbers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "nn/arch/config.hpp"
#include "nn/arch/family.hpp"
#include "pith/nn/parameters.hpp"
#include "support/files.hpp"

namespace pith::test {

/// Shapes by name, outermost first.
using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// `spell(role)` is the TensorName of a role; parameters that share one lie below each other.
template <class Spell>
Shapes shapes_of(const Config& config, Spell&& spell) {
  Shapes shapes;
  const auto add = [&](const Parameter& p, const auto& /*kept*/) {
    const TensorName& name = spell(p.role);
    auto& shape = shapes[filled(name.pattern, p)];
    const bool turned = p.cols > 0 && name.layout == TensorName::Layout::in_out;
    if (p.expert && !names_expert(name.pattern)) {
      shape = {static_cast<std::int64_t>(*p.expert + 1), static_cast<std::int64_t>(p.rows),
               static_cast<std::int64_t>(p.cols)};
      return;
    }
    if (shape.empty()) {
      shape.push_back(0);
      if (p.cols > 0) shape.insert(turned ? shape.begin() : shape.end(), static_cast<std::int64_t>(p.cols));
    }
    shape[turned ? 1 : 0] += static_cast<std::int64_t>(p.rows);
  };
  Weights empty;
  empty.layers.resize(config.layers.size());
  for_each_parameter(config, empty, add);
  return shapes;
}

inline SafetensorsWriter safetensors_of(const Config& config) {
  const Family& family = family_of(config.architecture);
  SafetensorsWriter writer;
  for (const auto& [name, shape] :
       shapes_of(config, [&](Role role) -> const TensorName& { return *hugging_face_spellings(family, role).front(); }))
    writer.f32(name, shape);
  return writer;
}

/// The tensors alone.
inline void add_tensors(GgufWriter& writer, const Config& config) {
  const Family& family = family_of(config.architecture);
  for (const auto& [name, shape] :
       shapes_of(config, [&](Role role) -> const TensorName& { return gguf_spelling(family, role); }))
    writer.tensor_f32(name, {shape.rbegin(), shape.rend()});
}

}  // namespace pith::test
