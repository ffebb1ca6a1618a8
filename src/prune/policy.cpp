// SPDX-License-Identifier: MIT
#include "pith/prune/policy.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "pith/error.hpp"

namespace pith::prune {

Needs Needs::operator|(const Needs& other) const {
  if (window > 0 && other.window > 0 && window != other.window)
    fail(ErrorCode::unsupported, "policy", "one observation window in a chain",
         std::to_string(window) + " and " + std::to_string(other.window));
  std::vector<MadeFor> files = made_for;
  files.insert(files.end(), other.made_for.begin(), other.made_for.end());
  return {gate || other.gate,
          decisions || other.decisions,
          lane_per_head || other.lane_per_head,
          evidence | other.evidence,
          std::max(window, other.window),
          std::max(layers, other.layers),
          std::max(kv_heads, other.kv_heads),
          std::max(key_blocks, other.key_blocks),
          after_pass || other.after_pass,
          std::move(files)};
}

}  // namespace pith::prune
