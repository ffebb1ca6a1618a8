// SPDX-License-Identifier: MIT
#include "pith/prune/scorers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "pith/tensor/ops.hpp"
#include "prune/in_order.hpp"

namespace pith::prune {

namespace {

/// Keys or values of a lane, row by row as attention sees them.
class Numbers {
 public:
  using Read = void (Row::*)(std::size_t, std::span<float>) const;

  Numbers(const Lane& lane, const Moment& moment, Read read) : lane_(lane), read_(read), row_(moment.scratch->numbers) {
    row_.resize(lane.layout().shape().head_dim);
  }

  std::size_t heads() const { return lane_.layout().shape().heads; }
  std::span<const float> operator()(std::size_t row, std::size_t head) {
    (lane_.row(row).*read_)(head, row_);
    return row_;
  }

 private:
  const Lane& lane_;
  Read read_;
  std::vector<float>& row_;
};

float square(std::span<const float> x) { return ops::dot(x.data(), x.data(), x.size()); }

/// f(page, first row, end) for the pages of a lane, on the moment's threads; `work`: multiply-adds for a row.
template <class F>
void for_each_page(const Lane& lane, const Moment& moment, std::size_t work, F&& f) {
  moment.threads.run(lane.pages(), lane.rows() * work, [&](std::size_t p) {
    const std::size_t first = p * PageLayout::capacity;
    f(p, first, std::min(lane.rows(), first + PageLayout::capacity));
  });
}

/// |x|^2 of each row, over the heads of the lane.
const std::vector<float>& squares(const Lane& lane, const Moment& moment, Numbers::Read read) {
  const auto& shape = lane.layout().shape();
  auto& all = moment.scratch->squares;
  all.assign(lane.rows(), 0.0f);
  for_each_page(lane, moment, 4 * shape.heads * shape.head_dim, [&](std::size_t, std::size_t first, std::size_t end) {
    float numbers[max_head_dim];
    const std::span<float> x(numbers, shape.head_dim);
    for (std::size_t row = first; row < end; ++row)
      for (std::size_t h = 0; h < shape.heads; ++h) {
        (lane.row(row).*read)(h, x);
        all[row] += square(x);
      }
  });
  return all;
}

/// scores[row] = f(those of the row and its neighbours, `pool` of them where there are so many).
template <class F>
void pool_rows(std::span<const std::size_t> order, int pool, const Moment& moment, std::span<float> scores, F&& f) {
  auto& before = moment.scratch->values;
  before.clear();
  for (const std::size_t row : order) before.push_back(scores[row]);
  const auto half = static_cast<std::size_t>(pool / 2);
  for (std::size_t k = 0; k < order.size(); ++k) {
    const std::size_t begin = k > half ? k - half : 0;
    const std::size_t end = std::min(order.size(), k + half + 1);
    scores[order[k]] = f(std::span<const float>(&before[begin], end - begin));
  }
}

float largest(std::span<const float> numbers) { return *std::ranges::max_element(numbers); }

}  // namespace

void ObservationWindow::score(const KvLayer& layer, std::size_t lane, const Moment& moment,
                              std::span<float> out) const {
  ColumnScore{column::window}.score(layer, lane, moment, out);
  const auto order = in_order(layer.lanes()[lane], moment, 0, moment.prompt_end - window);
  if (average)
    pool_rows(order, pool, moment, out, [&](std::span<const float> near) {
      return std::accumulate(near.begin(), near.end(), 0.0f) / static_cast<float>(pool);
    });
  else
    pool_rows(order, pool, moment, out, largest);
}

void PerQuery::score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const {
  ColumnScore{column}.score(layer, lane, moment, out);
  for (std::size_t row = 0; row < out.size(); ++row)
    out[row] /= static_cast<float>(moment.next - layer.lanes()[lane].born(row));
}

void KeyDifference::score(const KvLayer& layer, std::size_t l, const Moment& moment, std::span<float> out) const {
  const Lane& lane = layer.lanes()[l];
  const auto& shape = lane.layout().shape();
  const std::size_t dim = shape.head_dim;
  Scratch& scratch = *moment.scratch;
  auto &keys = scratch.keys, &inverse = scratch.weights, &anchor = scratch.mean;  // inverse: of lengths; 0 of none
  auto& sums = scratch.folded;                                                    // [page][dim] of rows' directions
  auto& products = scratch.squares;                                               // [row] with the anchor
  keys.resize(out.size() * dim);
  inverse.resize(out.size());
  products.resize(out.size());
  const auto tile = [&](std::size_t first) {
    return static_cast<const std::byte*>(static_cast<void*>(&keys[first * dim]));
  };
  std::ranges::fill(out, 0.0f);
  for (std::size_t h = 0; h < shape.heads; ++h) {
    sums.assign(lane.pages() * dim, 0.0f);
    for_each_page(lane, moment, 4 * dim, [&](std::size_t p, std::size_t first, std::size_t end) {
      const Page page = lane.page(p);
      for (std::size_t row = first; row < end; ++row) {
        const std::span<float> key(&keys[row * dim], dim);
        page.row(row - first).key(h, key);
        const float length = std::sqrt(square(key));
        inverse[row] = length > 0 ? 1 / length : 0;
      }
      ops::accumulate(KvFormat::f32, &inverse[first], 1, 0, tile(first), end - first, dim, &sums[p * dim], 0);
    });
    anchor.assign(dim, 0.0f);
    for (std::size_t p = 0; p < lane.pages(); ++p) ops::add(anchor.data(), &sums[p * dim], dim);
    const float length = std::sqrt(square(anchor));
    if (length == 0) continue;
    for_each_page(lane, moment, dim, [&](std::size_t, std::size_t first, std::size_t end) {
      ops::dots(KvFormat::f32, anchor.data(), 1, 0, tile(first), end - first, dim, &products[first], 0);
      for (std::size_t row = first; row < end; ++row) out[row] -= products[row] * (inverse[row] / length);
    });
  }
}

void KeyNorm::score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const {
  const auto& all = squares(layer.lanes()[lane], moment, &Row::key);
  for (std::size_t row = 0; row < out.size(); ++row) out[row] = -std::sqrt(all[row]);
}

void NormShare::score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const {
  const Lane& rows = layer.lanes()[lane];
  const auto order = in_order(rows, moment, 0, moment.next);
  const auto size = static_cast<std::size_t>(block);
  std::ranges::fill(out, 1.0f);
  for (const Numbers::Read read : {&Row::key, &Row::value}) {
    const auto& all = squares(rows, moment, read);
    for (std::size_t begin = 0; begin < order.size(); begin += size) {
      const auto part = order.subspan(begin, std::min(size, order.size() - begin));
      float sum = 0;
      for (const std::size_t row : part) sum += all[row];
      for (const std::size_t row : part) out[row] *= sum > 0 ? all[row] / sum : 0;
    }
  }
}

void weigh_by_output(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> scores) {
  constexpr std::size_t together = 32;  // rows of W_o, whose products with all values are at hand at once
  constexpr std::size_t rows_of_task = 64;
  const Lane& rows = layer.lanes()[lane];
  const auto& shape = rows.layout().shape();
  const std::size_t dim = shape.head_dim, n = scores.size();
  Scratch& scratch = *moment.scratch;
  auto &values = scratch.keys, &norms = scratch.weights, &weights = scratch.numbers;
  auto &block = scratch.block, &outputs = scratch.outputs;  // [dim][together] W_o turned; [row][together]
  values.resize(n * dim);
  norms.assign(n, 0.0f);
  weights.resize(moment.wo->cols());
  block.resize(dim * together);
  outputs.resize(n * together);
  for (std::size_t h = 0; h < shape.heads; ++h) {
    for (std::size_t row = 0; row < n; ++row) rows.row(row).value(h, {&values[row * dim], dim});
    const std::size_t kv_head = layer.lanes().number(lane) * shape.heads + h;
    for (std::size_t head = kv_head * moment.group; head < (kv_head + 1) * moment.group; ++head)
      for (std::size_t first = 0; first < moment.wo->rows(); first += together) {
        const std::size_t count = std::min(together, moment.wo->rows() - first);
        for (std::size_t j = 0; j < count; ++j) {
          moment.wo->row(first + j, weights);
          for (std::size_t c = 0; c < dim; ++c) block[c * together + j] = weights[head * dim + c];
        }
        std::ranges::fill(outputs, 0.0f);
        moment.threads.run((n + rows_of_task - 1) / rows_of_task, n * dim * count, [&](std::size_t task) {
          const std::size_t begin = task * rows_of_task, end = std::min(n, begin + rows_of_task);
          ops::add_product(&values[begin * dim], dim, 1, block.data(), together, end - begin, dim, count,
                           &outputs[begin * together], together);
          for (std::size_t row = begin; row < end; ++row)
            for (std::size_t j = 0; j < count; ++j) norms[row] += std::abs(outputs[row * together + j]);
        });
      }
  }
  for (std::size_t row = 0; row < n; ++row) scores[row] *= norms[row] / static_cast<float>(moment.group * shape.heads);
}

namespace {

/// Fills WorstCase::output_norm of the rows of a lane, unless it is known.
void find_output_norms(const KvLayer& layer, std::size_t l, const Moment& moment) {
  const Lane& lane = layer.lanes()[l];
  const Slot norm = lane.slot(WorstCase::output_norm);
  const auto known = [&](std::size_t row) { return lane.evidence(norm, row) > 0; };
  std::size_t unknown = 0;
  while (unknown < lane.rows() && known(unknown)) ++unknown;
  if (unknown == lane.rows()) return;
  auto& norms = moment.scratch->values;
  norms.assign(lane.rows(), 1.0f);
  weigh_by_output(layer, l, moment, norms);
  for (std::size_t row = unknown; row < lane.rows(); ++row)
    if (!known(row)) lane.evidence(norm, row) = norms[row];
}

}  // namespace

void WorstCase::score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const {
  const auto lanes = layer.lanes();
  const Lane& own = lanes[lane];
  auto& norms = moment.scratch->squares;  // [position] over the layer's lanes
  norms.assign(static_cast<std::size_t>(moment.next), 0.0f);
  const auto norm_of = [](const Lane& one, std::size_t row) { return one.evidence(one.slot(output_norm), row); };
  for (std::size_t l = 0; l < lanes.size(); ++l) {
    find_output_norms(layer, l, moment);
    for (std::size_t row = 0; row < lanes[l].rows(); ++row)
      norms[static_cast<std::size_t>(lanes[l].born(row))] += norm_of(lanes[l], row);
  }
  const Position window_begin = moment.prompt_end - window;
  auto& order = moment.scratch->order;
  in_order(own, moment, 0, window_begin);
  ColumnScore{column::peak}.score(layer, lane, moment, out);
  pool_rows(order, pool, moment, out, largest);
  double mean = 0;
  for (const std::size_t row : order) mean += static_cast<double>(out[row]) / static_cast<double>(order.size());
  for (const std::size_t row : order) {
    const float all = norms[static_cast<std::size_t>(own.born(row))];
    const float part = all > 0 ? norm_of(own, row) / all : 0;
    out[row] = std::max(out[row], static_cast<float>(mean)) * part;
  }

  // The sure ones, by mean attention, until what stays has its part.
  const auto attention_of = [&, slot = own.slot(column::window)](std::size_t row) { return own.evidence(slot, row); };
  const auto stays = [&](std::size_t row) {
    return own.born(row) < sinks || own.born(row) >= window_begin || own.pinned(row);
  };
  double all = 0, reached = 0;
  std::size_t spared = 0;
  for (std::size_t row = 0; row < own.rows(); ++row) {
    const auto attention = static_cast<double>(attention_of(row));
    all += attention;
    if (!stays(row)) continue;
    reached += attention;
    ++spared;
  }
  std::erase_if(order, stays);
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    return attention_of(a) != attention_of(b) ? attention_of(a) > attention_of(b) : own.born(a) > own.born(b);
  });
  const std::size_t may_stay = rows.at(moment);
  std::size_t most = may_stay > spared ? may_stay - spared : 0;
  for (const std::size_t row : order) {
    if (most-- == 0 || reached >= static_cast<double>(sure) * all) break;
    reached += static_cast<double>(attention_of(row));
    out[row] = std::numeric_limits<float>::max();
  }
}

namespace {

/// Adds to deviation[i] the softmax over a part of the standard deviations, over channels, of its rows on the scale of
/// the next part's range.
void add_deviation(const Lane& lane, const Moment& moment, Numbers::Read read, std::size_t head,
                   std::span<const std::size_t> part, std::span<const std::size_t> next, std::span<float> deviation) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Numbers numbers(lane, moment, read);
  const std::size_t dim = lane.layout().shape().head_dim;
  std::vector<float> low(dim, infinity), high(dim, -infinity);
  for (const std::size_t row : next) {
    const auto x = numbers(row, head);
    for (std::size_t c = 0; c < dim; ++c) {
      low[c] = std::min(low[c], x[c]);
      high[c] = std::max(high[c], x[c]);
    }
  }
  std::vector<float> spread(part.size());
  for (std::size_t i = 0; i < part.size(); ++i) {
    const auto x = numbers(part[i], head);
    double sum = 0, sum_of_squares = 0;
    for (std::size_t c = 0; c < dim; ++c) {
      const double scaled = high[c] > low[c] ? static_cast<double>((x[c] - low[c]) / (high[c] - low[c])) : 0;
      sum += scaled;
      sum_of_squares += scaled * scaled;
    }
    const auto n = static_cast<double>(dim);
    spread[i] = dim > 1 ? static_cast<float>(std::sqrt(std::max(0.0, (sum_of_squares - sum * sum / n) / (n - 1)))) : 0;
  }
  const float most = *std::ranges::max_element(spread);
  float sum = 0;
  for (float& s : spread) sum += s = std::exp(s - most);
  for (std::size_t i = 0; i < spread.size(); ++i) deviation[i] += spread[i] / sum;
}

}  // namespace

void LagDeviation::score(const KvLayer& layer, std::size_t lane, const Moment& moment, std::span<float> out) const {
  const Lane& rows = layer.lanes()[lane];
  std::ranges::fill(out, std::numeric_limits<float>::infinity());
  const auto order = in_order(rows, moment, sinks, moment.next);
  const auto size = static_cast<std::size_t>(lag);
  std::vector<float> deviation(size);
  std::vector<std::size_t> rank(size);
  for (std::size_t begin = 0; begin + 2 * size <= order.size(); begin += size) {
    const auto part = order.subspan(begin, size), next = order.subspan(begin + size, size);
    std::ranges::fill(deviation, 0.0f);
    for (std::size_t h = 0; h < rows.layout().shape().heads; ++h)
      for (const Numbers::Read read : {&Row::key, &Row::value})
        add_deviation(rows, moment, read, h, part, next, deviation);
    std::iota(rank.begin(), rank.end(), std::size_t{0});
    std::ranges::sort(rank, {}, [&](std::size_t i) { return std::pair(deviation[i], i); });
    for (std::size_t r = 0; r < size; ++r) out[part[rank[r]]] = static_cast<float>(r) / static_cast<float>(size);
  }
}

}  // namespace pith::prune
