// SPDX-License-Identifier: MIT
// Policies by name, for command lines and configuration files.
#pragma once

#include <string_view>

#include "pith/api.hpp"
#include "pith/prune/policy.hpp"

namespace pith::prune {

/// Reads
///
///     policy   = step {"," step}                     in the order in which they act
///     step     = name ["(" [argument {"," argument}] ")"]
///     argument = option "=" value                    each option once, those left out have their defaults
///              | step                                the policy that a combinator applies, one step or several
///
/// Methods:     none, gate(tau=), streaming(sinks=,recent=), h2o(rows=,recent=), snapkv(rows=,window=,pool=)
/// Combinators: on_prefill(POLICY), per_head(POLICY),
///              for_layers(layers=0-3,POLICY)         layers 0, 1, 2 and 3; layers=5: that one
///              for_heads(heads=0+2,POLICY)           kv-heads 0 and 2 of every layer
///              for_heads(heads=1.0+1.2+4.1,POLICY)   layer.head: heads 0 and 2 of layer 1 and head 1 of layer 4
///
/// For instance "gate,for_layers(layers=2-5,h2o(rows=1024,recent=256))". `tau` is the strength of a gate that does not
/// name its own. AnyPolicy::describe() writes what this reads. Throws Error (argument), naming what there is.
PITH_API AnyPolicy parse(std::string_view spec, float tau = 0);

}  // namespace pith::prune
