// SPDX-License-Identifier: MIT
// What the processor gives threads that do nothing but 8-bit dot products: the yardstick for prefill with weights in
// blocks, whose every weight is multiplied once per token.
#pragma once

#include "pith/tensor/parallel.hpp"

namespace pith::inline measure {

class DotPeak {
 public:
  explicit DotPeak(const Threads& threads) : threads_(threads) {}

  /// Measured anew by each call, in some milliseconds.
  double multiply_adds_per_second();

 private:
  Threads threads_;
};

}  // namespace pith::inline measure
