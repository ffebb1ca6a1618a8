// SPDX-License-Identifier: MIT
// Which loops are worth handing out to threads.
#pragma once

#include <cstddef>

namespace pith::inline tensor {

/// Multiply-adds. Handing out a loop costs about a microsecond, and more where the cores are busy.
inline constexpr std::size_t worth_sharing = std::size_t{1} << 16;

}  // namespace pith::inline tensor
