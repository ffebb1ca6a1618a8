// SPDX-License-Identifier: MIT
#include "pith/nn/decoder.hpp"

namespace pith::inline nn {

void store(const Config& config, const Pass& pass, std::size_t layer, const Workspace& ws, const Threads& threads) {
  const auto dim = static_cast<std::size_t>(config.head_dim);
  const int window = config.layers[layer].window;
  for_each_segment(pass, threads, 2 * ws.k.rows() * ws.k.cols(), [&](const Segment& segment, const Threads&) {
    const auto lanes = segment.cache->layer(layer).lanes();
    for (std::size_t l = 0; l < lanes.size(); ++l) {
      Lane& lane = lanes[l];
      const auto& shape = lane.layout().shape();
      for (std::size_t t = segment.row; t < segment.row + segment.count; ++t) {
        const Position position = pass.positions[t];
        const std::size_t row = lane.append(position, window > 0 ? position + window : never);
        const Page page = lane.page(row / PageLayout::capacity);
        const std::size_t i = row % PageLayout::capacity;
        for (std::size_t h = 0; h < shape.heads; ++h) {
          const std::size_t from = (l * shape.heads + h) * dim;
          store_row(shape.format, Side::keys, ws.k[t].data() + from, dim, page.k(h), i);
          store_row(shape.format, Side::values, ws.v[t].data() + from, dim, page.v(h), i);
        }
        if (shape.gate_dim > 0) std::ranges::copy(ws.gate.key(t), page.gate() + i * shape.gate_dim);
      }
    }
  });
}

}  // namespace pith::inline nn
