// SPDX-License-Identifier: MIT
#include "kernels/scratch.hpp"

#include "pith/tensor/tensor.hpp"

namespace pith::kernels {

std::byte* scratch(std::size_t bytes) {
  thread_local Tensor<std::byte> memory;
  memory.resize(1, bytes);
  return memory.data();
}

}  // namespace pith::kernels
