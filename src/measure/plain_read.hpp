// SPDX-License-Identifier: MIT
// What memory gives threads that only read: the yardstick for decoding, which reads weights and cache once per token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pith/tensor/parallel.hpp"

namespace pith::inline measure {

class PlainRead {
 public:
  /// Holds 256 MiB, more than caches do.
  explicit PlainRead(const Threads& threads);

  static constexpr std::size_t bytes = std::size_t{256} << 20;

  /// Reads them all once.
  void operator()();

  /// The same, timed.
  double bytes_per_second();

 private:
  Threads threads_;
  std::vector<std::uint64_t> words_;
  std::vector<std::uint64_t> sums_;  // one per part, so that nothing read is without use
};

}  // namespace pith::inline measure
