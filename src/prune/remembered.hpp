// SPDX-License-Identifier: MIT
// What a policy remembers with a lane comes back from files, too, which may have been forged: it is whatever numbers.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "pith/cache/lane.hpp"

namespace pith::prune {

/// The `count` numbers that the lane remembers by this name; all `fresh` where it remembers another number of them:
/// none at first.
inline std::vector<float>& remembered(const Lane& lane, std::string_view name, std::size_t count, float fresh) {
  std::vector<float>& found = lane.state(name);
  if (found.size() != count) found.assign(count, fresh);
  return found;
}

/// A position or number of rows that is remembered; 0 for what is neither.
inline Position whole(float number) {
  constexpr float most = 1 << 30;  // with room to count on
  return number >= 0 && number < most ? static_cast<Position>(number) : 0;
}

}  // namespace pith::prune
