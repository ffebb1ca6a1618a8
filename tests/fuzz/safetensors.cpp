// SPDX-License-Identifier: MIT
// Any bytes as a safetensors file: an Error, or tensors whose bytes can all be read.
#include "files/safetensors.hpp"

#include "fuzz/scratch_file.hpp"
#include "pith/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const pith::test::ScratchFile scratch(".safetensors");
  try {
    const auto file = pith::safetensors::open(scratch.holding(data, size));
    volatile unsigned sum = 0;
    for (const auto& [name, tensor] : file.tensors)
      for (const std::byte b : tensor.bytes) sum = sum + std::to_integer<unsigned>(b);
  } catch (const pith::Error&) {
  }
  return 0;
}
