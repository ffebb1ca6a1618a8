// SPDX-License-Identifier: MIT
// The integers that scale the parts of a block.
#pragma once

#include <cstdint>

namespace pith::inline tensor {

/// What scales a part's quants and its minimum.
struct PartScales {
  int scale, min;
};

/// Those of eight parts, 0 to 63 each, as a q4_k and a q5_k hold them: scales in the first four bytes, minima in the
/// next four; of the last four parts the lower bits are in the last four bytes, the upper two above those of the
/// others.
constexpr PartScales part_of(const std::uint8_t (&parts)[12], int part) {
  if (part < 4) return {parts[part] & 63, parts[part + 4] & 63};
  return {(parts[part + 4] & 15) | (parts[part - 4] >> 6 << 4), (parts[part + 4] >> 4) | (parts[part] >> 6 << 4)};
}

/// Puts them where there are zeros.
constexpr void put_part(std::uint8_t (&parts)[12], int part, PartScales integers) {
  const auto put = [&](int at, int bits) { parts[at] = static_cast<std::uint8_t>(parts[at] | bits); };
  if (part < 4) {
    put(part, integers.scale);
    put(part + 4, integers.min);
  } else {
    put(part + 4, (integers.scale & 15) | (integers.min & 15) << 4);
    put(part - 4, integers.scale >> 4 << 6);
    put(part, integers.min >> 4 << 6);
  }
}

}  // namespace pith::inline tensor
