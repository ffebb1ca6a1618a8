// SPDX-License-Identifier: MIT
// From the named tensors of a checkpoint to the parameters of its model.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "nn/arch/family.hpp"
#include "pith/nn/parameters.hpp"

namespace pith {

/// Fetches parameters by their names.
class Loader {
 public:
  /// Throws Error (unsupported) where the checkpoint has a tensor that its model does not use, and says which.
  explicit Loader(const Checkpoint& checkpoint);

  // Throw Error (model, unsupported) for tensors that are missing or do not fit.
  Weights load();
  Weights all_but_layers();
  LayerWeights layer(std::size_t i);

  // To be walked with.
  void operator()(const Parameter& parameter, Matrix& out);
  void operator()(const Parameter& parameter, std::vector<float>& out);

 private:
  /// Where a parameter lies: rows from `first` on of a tensor of `rows` rows, those of all `experts` where they share
  /// it.
  struct Place {
    std::string name;
    std::size_t first, rows, experts;
    TensorName::Layout layout;
  };
  Place place_of(const Parameter& parameter) const;
  const TensorName& spelling_of(const Parameter& parameter) const;
  void refuse_unused() const;
  [[noreturn]] void refuse_unused(const std::string& name, const StoredTensor& tensor) const;

  const Checkpoint& checkpoint_;
  const Config& config_;
  const Family& family_;
  // The tensor fetched last: several parameters may come out of it.
  std::string matrix_name_, vector_name_;
  Matrix matrix_;
  Format expert_format_ = Format::f32;  // of the first of the experts that are being fetched
  std::vector<float> vector_;
};

}  // namespace pith
