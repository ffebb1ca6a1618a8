// SPDX-License-Identifier: MIT
#include "pith/prune/channels.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace pith::prune {

namespace {

constexpr const char* met = "think.met";  // [head][head_dim] sums of squares of the window's queries

/// The `count` channels of the largest scores, ascending; of equal scores the first.
std::vector<std::uint16_t> best(std::span<const double> scores, std::size_t count) {
  std::vector<std::uint16_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(), [&](std::uint16_t c) { return scores[c]; });
  order.resize(count);
  std::ranges::sort(order);
  return order;
}

}  // namespace

std::size_t MostMetChannels::kept(const PageLayout::Shape& shape) const {
  const auto block = static_cast<std::size_t>(block_values(shape.keys));
  const double wanted = static_cast<double>(share) * static_cast<double>(shape.head_dim / block);
  return std::max(static_cast<std::size_t>(std::lround(wanted)), std::size_t{1}) * block;
}

void MostMetChannels::after_attention(const KvLayer& layer, const Moment& moment) const {
  if (!moment.reads_prompt()) return;
  // Of the queries at hand, the last ones: those of the window.
  const Position seen = moment.next - std::max(moment.first, moment.prompt_end - window);
  const std::size_t count = std::min(static_cast<std::size_t>(std::max(seen, 0)), moment.q.rows);
  for (std::size_t l = 0; l < layer.lanes().size(); ++l) {
    const Lane& lane = layer.lanes()[l];
    const auto& shape = lane.layout().shape();
    if (lane.channels() != nullptr || kept(shape) == shape.head_dim) continue;
    const std::size_t dim = shape.head_dim;
    std::vector<float>& squares = lane.state(met);
    squares.resize(shape.heads * dim);
    for (std::size_t t = moment.q.rows - count; t < moment.q.rows; ++t)
      for (std::size_t h = 0; h < shape.heads * moment.group; ++h) {
        const std::size_t head = layer.lanes().number(l) * shape.heads * moment.group + h;
        const float* const q = moment.q[t].data() + head * dim;
        float* const sums = &squares[h / moment.group * dim];
        for (std::size_t c = 0; c < dim; ++c) sums[c] += q[c] * q[c];
      }
    if (!moment.ends_prompt() || lane.rows() == 0) continue;

    std::vector<std::uint16_t> channels;
    std::vector<double> scores(dim);
    std::vector<float> key(dim);
    for (std::size_t h = 0; h < shape.heads; ++h) {
      std::ranges::fill(scores, 0.0);
      for (std::size_t row = 0; row < lane.rows(); ++row) {
        lane.row(row).key(h, key);
        for (std::size_t c = 0; c < dim; ++c) scores[c] += static_cast<double>(key[c]) * key[c];
      }
      for (std::size_t c = 0; c < dim; ++c) scores[c] *= squares[h * dim + c];
      const auto of_head = best(scores, kept(shape));
      channels.insert(channels.end(), of_head.begin(), of_head.end());
    }
    squares.clear();
    squares.shrink_to_fit();
    layer.keep_channels(l, std::move(channels));
  }
}

}  // namespace pith::prune
