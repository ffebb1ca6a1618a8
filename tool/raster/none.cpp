// SPDX-License-Identifier: MIT
#include "../raster.hpp"
#include "pith/error.hpp"

namespace pith::tool {

void require_raster() {
  fail(ErrorCode::unsupported,
       "PNG and GIF: this pith was built without pictures (PITH_PICTURES with cairo, pango and giflib); --svg works");
}

void write_png(OutputFile&, const Drawing&) { require_raster(); }
void write_gif(OutputFile&, std::size_t, const std::function<Drawing(std::size_t)>&) { require_raster(); }

}  // namespace pith::tool
