// SPDX-License-Identifier: MIT
// Policies by name, for command lines and configuration files.
#pragma once

#include <string_view>

#include "pith/prune/policy.hpp"

namespace pith::prune {

/// "none", or methods in the order in which they act, each with options: "gate,h2o(rows=1024,recent=256)".
/// Names: gate(tau=), streaming(sinks=,recent=), h2o(rows=,recent=), snapkv(rows=,window=,pool=).
/// `tau` is the strength of a gate that does not name its own. Throws Error (argument), naming what is there.
AnyPolicy parse(std::string_view spec, float tau = 0);

}  // namespace pith::prune
