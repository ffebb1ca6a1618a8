// SPDX-License-Identifier: MIT
// Random numbers that are the same on every platform.
#pragma once

#include <cstdint>

namespace pith {

/// PCG-XSH-RR 64/32 (O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random
/// Number Generation", HMC-CS-2014-0905, section 6.3): a 64-bit linear congruential state, permuted on its way out.
class Pcg32 {
 public:
  /// Generators of different streams share no sequence, whatever their seeds.
  explicit constexpr Pcg32(std::uint64_t seed, std::uint64_t stream = 0) : increment_(stream << 1 | 1) {
    next();
    state_ += seed;
    next();
  }

  /// 32 random bits.
  constexpr std::uint32_t next() {
    const std::uint64_t old = state_;
    state_ = old * 6364136223846793005u + increment_;
    const auto xorshifted = static_cast<std::uint32_t>((old >> 18 ^ old) >> 27);
    const auto rotation = static_cast<std::uint32_t>(old >> 59);
    return xorshifted >> rotation | xorshifted << (-rotation & 31);
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  constexpr double uniform() {
    const std::uint64_t high = next() >> 5, low = next() >> 6;  // 27 and 26 bits
    return static_cast<double>(high << 26 | low) * 0x1p-53;
  }

 private:
  std::uint64_t state_ = 0;
  std::uint64_t increment_;  // odd
};

}  // namespace pith
