// SPDX-License-Identifier: MIT
#include "pith/prune/replay.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "pith/tensor/ops.hpp"

namespace pith::prune {

namespace {

constexpr std::size_t capacity = PageLayout::capacity;
constexpr float infinity = std::numeric_limits<float>::infinity();

}  // namespace

void ReplayWorth::evict(KvCache& cache, const std::vector<bool>& judged, float share, Position sinks,
                        Position next) const {
  struct Judged {
    float worth;
    Position born;
    std::size_t layer, lane;
  };
  std::vector<Judged> rows;
  std::size_t all = 0;
  for (std::size_t l = 0; l < cache.layers(); ++l) {
    if (!judged[l]) continue;
    const KvLayer layer = cache.layer(l);
    for (std::size_t lane = 0; lane < layer.lanes().size(); ++lane)
      for (std::size_t row = 0; row < layer.lanes()[lane].rows(); ++row, ++all) {
        const Row one = layer.lanes()[lane].row(row);
        if (one.born() < sinks || one.pinned()) continue;
        rows.push_back({worth_[l][lane][static_cast<std::size_t>(one.born())], one.born(), l, lane});
      }
  }
  const auto stay = static_cast<std::size_t>(std::lround(static_cast<double>(share) * static_cast<double>(all)));
  const std::size_t spared = all - rows.size();
  const std::size_t best = std::min(rows.size(), stay > spared ? stay - spared : 0);
  std::ranges::sort(rows, [](const Judged& a, const Judged& b) {
    return std::tuple(-a.worth, -a.born, a.layer, a.lane) < std::tuple(-b.worth, -b.born, b.layer, b.lane);
  });
  std::vector leaves(cache.layers(), std::vector<std::vector<Position>>(cache.lanes_per_layer()));
  for (std::size_t i = best; i < rows.size(); ++i) leaves[rows[i].layer][rows[i].lane].push_back(rows[i].born);
  for (std::size_t l = 0; l < cache.layers(); ++l) {
    const KvLayer layer = cache.layer(l);
    for (std::size_t lane = 0; lane < layer.lanes().size(); ++lane) {
      auto& gone = leaves[l][lane];
      std::ranges::sort(gone);
      // From the back: the row that fills a hole has been looked at.
      for (std::size_t row = layer.lanes()[lane].rows(); row-- > 0;)
        if (std::ranges::binary_search(gone, layer.lanes()[lane].born(row))) layer.evict(lane, row, next);
    }
    cache.sweep(l, next);
  }
}

void ObserveReplay::after_attention(const KvLayer& layer, const Moment& moment) const {
  const auto lanes = layer.lanes();
  const std::size_t group = moment.group;
  moment.threads.run(lanes.size(), lanes.size() * lanes[0].rows() * moment.q.rows * moment.q.cols, [&](std::size_t l) {
    const Lane& lane = lanes[l];
    const auto& shape = lane.layout().shape();
    const std::size_t dim = shape.head_dim, length = lane.pages() * capacity;
    Tensor<float> queries(group, dim), scores(group, length);
    for (std::size_t t = 0; t < moment.q.rows; ++t) {
      const Position n = moment.first + static_cast<Position>(t);
      for (std::size_t h = 0; h < shape.heads; ++h) {
        const auto q = moment.q[t].subspan((lanes.number(l) * shape.heads + h) * group * dim, group * dim);
        std::ranges::transform(q, queries.data(), [&](float x) { return x * moment.query_scale; });
        ops::prepare(shape.keys, queries.data(), group, dim, dim);
        for (std::size_t p = 0; p < lane.pages(); ++p)
          ops::dots(shape.keys, queries.data(), group, dim, lane.page(p).k(h), lane.page(p).rows(), dim,
                    scores.data() + p * capacity, length);
        for (std::size_t g = 0; g < group; ++g) {
          const std::span row = scores[g].first(lane.rows());
          if (moment.score_cap != 0) ops::soft_cap(row.data(), moment.score_cap, row.size());
          for (std::size_t i = 0; i < row.size(); ++i) {
            const Position born = lane.born(i);
            const bool seen = born < sinks || (born >= begin && born < end) || (born >= replay && born <= n);
            if (!seen || lane.until(i) <= n) row[i] = -infinity;
          }
          const float sum = ops::exp_shifted(row.data(), ops::max(row.data(), row.size()), row.size());
          for (std::size_t i = 0; i < row.size(); ++i) {
            const Position born = lane.born(i);
            if (born < begin || born >= end) continue;
            float& most = worth->at(layer.layer(), lanes.number(l), born);
            most = std::max(most, row[i] / sum);
          }
        }
      }
    }
  });
}

}  // namespace pith::prune
