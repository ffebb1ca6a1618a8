// SPDX-License-Identifier: MIT
// What the parts of a trace's picture have in common.
#pragma once

#include <cstddef>

#include "pith/drawing.hpp"

namespace pith::trace {

inline constexpr double margin = 20, column = 8.4;  // pixels
inline constexpr std::size_t line_columns = 108;
inline constexpr double page_width = 2 * margin + line_columns * column;

inline constexpr Colour white{255, 255, 255}, ink{28, 33, 39}, faint{87, 96, 106}, gone{230, 233, 237},
    seen{31, 95, 168}, self{217, 119, 6}, strike{179, 38, 30};

}  // namespace pith::trace
