// SPDX-License-Identifier: MIT
// What is worth several threads, in multiply-adds.
#pragma once

#include <cstddef>

namespace pith::inline tensor {

#if defined(PITH_SHARE_EVERY_LOOP)
// For the thread sanitizer: tests' models are small, and loops that one thread runs alone tell it nothing.
inline constexpr std::size_t worth_sharing = 16;
inline constexpr std::size_t worth_gathering = 16;
#else
/// A loop: handing it out costs about a microsecond, and more where the cores are busy.
inline constexpr std::size_t worth_sharing = std::size_t{1} << 16;

/// A step: gathering threads costs some tens of microseconds; a small model's token takes less.
inline constexpr std::size_t worth_gathering = std::size_t{1} << 21;
#endif

}  // namespace pith::inline tensor
