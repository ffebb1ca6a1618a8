// SPDX-License-Identifier: MIT
// Policies by name, for command lines and configuration files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

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
/// Methods and combinators, with their options, are those of catalogue(), which `pith policies` prints.
///
/// For instance "gate,for_layers(layers=2-5,h2o(rows=1024,recent=256))". `tau` is the strength of a gate that does not
/// name its own. AnyPolicy::describe() writes what this reads. A file's name ends at a comma or a closing parenthesis.
/// Throws Error (argument), naming what there is, and as the reading of a file does.
PITH_API AnyPolicy parse(std::string_view spec, float tau = 0);

struct OptionText {
  std::string name, fallback, range, what;  // "rows", "1024", "a whole number from 1 to …", "all that stay"
};

/// What can be said of a method or a combinator.
struct MethodText {
  std::string name;
  std::string paper;      // its arXiv number; empty where there is none
  std::string what;       // in a few words
  std::string acts;       // when: "every token", "every pass", "end of a prompt" …
  std::string arguments;  // what has to be said, as it is written: "layers=0-3,POLICY", "file=FILE"
  std::vector<OptionText> options = {};
};

/// Whether what the policy has dropped at any time depends on the tokens so far alone: not on those that follow, not on
/// where prompts and passes end. False, too, for one that parse does not know.
PITH_API bool looks_back_alone(const AnyPolicy& policy);

/// All that parse knows.
PITH_API std::vector<MethodText> catalogue();

}  // namespace pith::prune
