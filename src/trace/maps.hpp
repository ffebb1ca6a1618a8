// SPDX-License-Identifier: MIT
// What each layer of a trace sees: a map of queries and tokens, and the rows that each query sees.
#pragma once

#include <cstddef>

#include "pith/drawing.hpp"
#include "pith/trace.hpp"

namespace pith::trace {

/// A panel for each layer, counted from `first`, of the queries before `now`, of which there is one at least; `map`:
/// side of a map, about, in pixels. Returns where the panels end.
double draw_layers(Drawing& drawing, const Trace& trace, std::size_t first, std::size_t now, double map, double top);

}  // namespace pith::trace
