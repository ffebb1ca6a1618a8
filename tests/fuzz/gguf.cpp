// SPDX-License-Identifier: MIT
// Any bytes as a GGUF model: an Error, or a checkpoint whose tensors become weights and vectors, or say why not.
#include <cstdint>

#include "checkpoint.hpp"
#include "fuzz/scratch_file.hpp"
#include "pith/error.hpp"

namespace {

void read(const pith::Checkpoint& checkpoint, const std::string& name, const pith::StoredTensor& tensor) {
  try {
    if (tensor.shape.size() == 1) checkpoint.vector(name, static_cast<std::size_t>(tensor.shape[0]));
    const auto fits = [&](std::size_t i) { return tensor.shape[i] < 1 << 20; };
    if (tensor.shape.size() == 3 && fits(0) && fits(1)) {
      const auto experts = static_cast<std::size_t>(tensor.shape[0]), rows = static_cast<std::size_t>(tensor.shape[1]);
      checkpoint.matrix(name, experts * rows, static_cast<std::size_t>(tensor.shape[2]),
                        pith::TensorName::Layout::out_in, experts);
    }
    if (tensor.shape.size() != 2) return;
    const auto rows = static_cast<std::size_t>(tensor.shape[0]), cols = static_cast<std::size_t>(tensor.shape[1]);
    checkpoint.matrix(name, rows, cols);
    checkpoint.matrix(name, cols, rows, pith::TensorName::Layout::in_out);
  } catch (const pith::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const pith::test::ScratchFile scratch(".gguf");
  try {
    const auto checkpoint = pith::Checkpoint::open(scratch.holding(data, size));
    for (const auto& [name, tensor] : checkpoint.tensors()) read(checkpoint, name, tensor);
  } catch (const pith::Error&) {
  }
  return 0;
}
