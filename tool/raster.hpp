// SPDX-License-Identifier: MIT
// Pictures as pixels. Built with PITH_PICTURES these are cairo, pango and giflib; without, they say so.
#pragma once

#include <cstddef>
#include <functional>

#include "files/output_file.hpp"
#include "pith/drawing.hpp"

namespace pith::tool {

/// Throws Error (unsupported) where this program was built without pictures.
void require_raster();

/// Two pixels per unit of the drawing, fewer where that would be too large.
/// Throws Error (file) where it cannot be written, Error (argument) for a drawing that is too large.
void write_png(OutputFile& file, const Drawing& drawing);

/// An animation that begins again at its end: `count` drawings of one size, one pixel per unit.
/// Throws as write_png().
void write_gif(OutputFile& file, std::size_t count, const std::function<Drawing(std::size_t)>& frame);

}  // namespace pith::tool
