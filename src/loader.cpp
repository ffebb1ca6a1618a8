// SPDX-License-Identifier: MIT
#include "loader.hpp"

#include <algorithm>
#include <optional>
#include <set>

#include "nn/arch/common.hpp"
#include "pith/error.hpp"
#include "printable.hpp"

namespace pith {

namespace {

/// All names that a checkpoint may give to a role.
std::vector<const TensorName*> spellings(const Family& family, Checkpoint::Container container, Role role) {
  if (container == Checkpoint::Container::hugging_face) return hugging_face_spellings(family, role);
  auto names = gguf_spellings(family, role);
  // Gates may lie over a GGUF under the names of Hugging Face.
  if (is_drop_gate(role)) std::ranges::copy(hugging_face_spellings(family, role), std::back_inserter(names));
  return names;
}

std::size_t rows_of(const Config& config, std::size_t layer, Role role) {
  std::size_t rows = 0;
  const LayerWeights empty;
  for_each_slot(config, layer, empty, [&](const Parameter& p, const auto&) {
    if (p.role == role && p.suffix == ".weight") rows = p.rows;
  });
  return rows;
}

}  // namespace

Loader::Loader(const Checkpoint& checkpoint)
    : checkpoint_(checkpoint), config_(checkpoint.config()), family_(family_of(config_.architecture)) {
  refuse_unused();
}

Weights Loader::load() {
  Weights w = all_but_layers();
  for (std::size_t i = 0; i < config_.layers.size(); ++i) w.layers.push_back(layer(i));
  return w;
}

Weights Loader::all_but_layers() {
  Weights w;
  for_each_parameter_around(config_, w, *this, [] {});
  if (config_.tied_head) w.head = w.embedding;
  return w;
}

LayerWeights Loader::layer(std::size_t i) {
  LayerWeights w;
  for_each_parameter(config_, i, w, *this);
  return w;
}

void Loader::operator()(const Parameter& p, Matrix& out) {
  const Place place = place_of(p);
  if (matrix_name_ != place.name) {
    matrix_ = checkpoint_.matrix(place.name, place.rows, p.cols, place.layout, place.experts);
    matrix_name_ = place.name;
  }
  out = place.rows == p.rows ? matrix_ : matrix_.rows_from(place.first, p.rows);
  // The gate decides for good: its arithmetic stays in f32.
  if (is_drop_gate(p.role) && block_values(out.format()) > 1)
    fail(ErrorCode::unsupported, "tensor " + in_quotes(place.name), "a gate in f32, f16 or bf16", name(out.format()));
  if (p.expert == std::size_t{0}) expert_format_ = out.format();
  if (p.expert && out.format() != expert_format_)
    fail(ErrorCode::model, checkpoint_.path().string() + ": tensor " + in_quotes(place.name),
         std::string(name(expert_format_)) + ", as the first expert's", name(out.format()));
}

void Loader::operator()(const Parameter& p, std::vector<float>& out) {
  const Place place = place_of(p);
  if (vector_name_ != place.name) {
    vector_ = checkpoint_.vector(place.name, place.rows);
    vector_name_ = place.name;
  }
  const auto first = vector_.begin() + static_cast<std::ptrdiff_t>(place.first);
  out.assign(first, first + static_cast<std::ptrdiff_t>(p.rows));
}

const TensorName& Loader::spelling_of(const Parameter& p) const {
  const auto names = spellings(family_, checkpoint_.container(), p.role);
  const auto found = std::ranges::find_if(names, [&](const TensorName* name) {
    const std::string text = filled(name->pattern, p.layer, p.expert);
    return checkpoint_.has(text + ".weight") || checkpoint_.has(text);
  });
  if (found != names.end()) return **found;
  if (names.empty())
    fail(ErrorCode::unsupported, checkpoint_.path().string(), "a model whose tensors have names in such files",
         std::string(family_.model_type) + " with one that has none");
  return *names.front();
}

Loader::Place Loader::place_of(const Parameter& p) const {
  const TensorName& spelling = spelling_of(p);
  Place place{filled(spelling.pattern, p), 0, p.rows, 0, spelling.layout};
  if (spelling.roles.size() > 1) {
    place.rows = 0;
    for (const Role role : spelling.roles) {
      if (role == p.role) place.first = place.rows;
      place.rows += rows_of(config_, *p.layer, role);
    }
  }
  if (p.expert && !names_expert(spelling.pattern)) {
    place.experts = static_cast<std::size_t>(config_.layers[*p.layer].experts.count);
    place.first += *p.expert * place.rows;
    place.rows *= place.experts;
  }
  return place;
}

void Loader::refuse_unused() const {
  std::set<std::string, std::less<>> used;
  const auto use = [&](const Parameter& p, const auto&) {
    const auto name = place_of(p).name;
    // At once: a config may speak of millions that no file has.
    if (p.expert && !checkpoint_.has(name))
      fail(ErrorCode::model, checkpoint_.path().string(), "tensor " + in_quotes(name), "no such tensor");
    used.insert(name);
  };
  const Weights none;
  const LayerWeights empty;
  for_each_parameter_around(config_, none, use, [&] {
    for (std::size_t i = 0; i < config_.layers.size(); ++i) for_each_parameter(config_, i, empty, use);
  });
  const auto is_copy_of_embedding = [&](std::string_view name) {
    const auto names = spellings(family_, checkpoint_.container(), Role::head);
    return config_.tied_head &&
           std::ranges::any_of(names, [&](const TensorName* head) { return follows(name, head->pattern); });
  };
  const bool divided = checkpoint_.container() == Checkpoint::Container::gguf && !config_.ropes.empty();
  for (const auto& [name, tensor] : checkpoint_.tensors()) {
    const bool divides = divided && std::ranges::find(rope_tensors, name) != std::end(rope_tensors);
    if (!used.contains(name) && !is_harmless(name) && !is_copy_of_embedding(name) && !divides)
      refuse_unused(name, tensor);
  }
}

void Loader::refuse_unused(const std::string& name, const StoredTensor& tensor) const {
  std::string found = "a name that " + std::string(family_.model_type) + " models do not have";
  for (const auto& lines : {family_.names, family_.own_gguf_names, hugging_face_names(), gguf_names()}) {
    for (const TensorName& line : lines) {
      const auto names = spellings(family_, checkpoint_.container(), line.roles[0]);
      if (std::ranges::find(names, &line) == names.end()) continue;
      Numbers numbers;
      if (!follows(name, line.pattern, &numbers)) continue;
      found = "one that has no place in it, by what the model says of itself";
      const auto beyond = [&](const char* what, std::size_t number, std::size_t count) {
        if (count > 0 && number >= count)
          found = "one of " + std::string(what) + ' ' + std::to_string(number) + ", where the last is " +
                  std::to_string(count - 1);
      };
      if (!numbers.layer) continue;
      beyond("layer", *numbers.layer, config_.layers.size());
      if (numbers.expert && *numbers.layer < config_.layers.size())
        beyond("expert", *numbers.expert, static_cast<std::size_t>(config_.layers[*numbers.layer].experts.count));
    }
  }
  fail(ErrorCode::unsupported, tensor.file->path().string() + ": tensor " + in_quotes(name),
       "only tensors that the model uses", found);
}

}  // namespace pith
