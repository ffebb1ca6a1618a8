// SPDX-License-Identifier: MIT
#include "nn/arch/family.hpp"

#include <algorithm>
#include <cassert>

namespace pith::inline nn {

extern const Family gpt2, llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gemma2, gemma3, phi3, smollm3, olmo2,
    granite;

std::span<const Family* const> families() {
  static constexpr const Family* all[] = {&gpt2,   &llama,  &mistral, &mixtral, &qwen2, &qwen3,  &qwen3_moe,
                                          &gemma2, &gemma3, &phi3,    &smollm3, &olmo2, &granite};
  return all;
}

const Family& family_of(Architecture architecture) {
  const auto found = std::ranges::find(families(), architecture, &Family::architecture);
  assert(found != families().end());
  return **found;
}

std::string_view name(Architecture architecture) { return family_of(architecture).model_type; }

std::string known(std::string_view Family::*name) {
  std::vector<std::string_view> names;
  for (const Family* family : families())
    if (std::ranges::find(names, family->*name) == names.end()) names.push_back(family->*name);
  std::string text;
  for (const std::string_view one : names) text.append(text.empty() ? "one of " : ", ").append(one);
  return text;
}

namespace {

std::vector<const TensorName*> that_hold(std::span<const TensorName> names, Role role) {
  std::vector<const TensorName*> found;
  for (const TensorName& name : names)
    if (name.holds(role)) found.push_back(&name);
  return found;
}

}  // namespace

std::vector<const TensorName*> hugging_face_spellings(const Family& family, Role role) {
  auto own = that_hold(family.names, role);
  return own.empty() ? that_hold(hugging_face_names(), role) : own;
}

std::vector<const TensorName*> gguf_spellings(const Family& family, Role role) {
  auto own = that_hold(family.own_gguf_names, role);
  return own.empty() ? that_hold(gguf_names(), role) : own;
}

const TensorName& gguf_spelling(const Family& family, Role role) {
  const auto native = hugging_face_spellings(family, role);
  const auto all = gguf_spellings(family, role);
  const auto found = std::ranges::find_if(all, [&](const TensorName* name) {
    return !native.empty() && std::ranges::equal(name->roles, native[0]->roles);
  });
  return found == all.end() ? *all.front() : **found;
}

}  // namespace pith::inline nn
