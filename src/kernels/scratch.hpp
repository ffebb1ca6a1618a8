// SPDX-License-Identifier: MIT
// Working memory of a kernel, one piece per thread, kept for the next call.
#pragma once

#include <cstddef>

namespace pith::kernels {

/// At least `bytes`, 64-byte aligned, valid until this thread's next call.
std::byte* scratch(std::size_t bytes);

}  // namespace pith::kernels
