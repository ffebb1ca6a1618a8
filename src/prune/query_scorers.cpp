// SPDX-License-Identifier: MIT
#include "pith/prune/query_scorers.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include "pith/tensor/ops.hpp"
#include "prune/in_order.hpp"
#include "prune/remembered.hpp"

namespace pith::prune {

namespace {

/// The queries of the pass that belong to a lane: [tokens, its query heads * head_dim].
View<const float> queries_of(const KvLayer& layer, std::size_t lane, const Moment& moment) {
  const auto& shape = layer.lanes()[lane].layout().shape();
  const std::size_t width = shape.heads * moment.group * shape.head_dim;
  return moment.q.cols_from(layer.lanes().number(lane) * width, width);
}

/// x = softmax(x)
void softmax(std::span<float> x) {
  const float sum = ops::exp_shifted(x.data(), ops::max(x.data(), x.size()), x.size());
  ops::scale(x.data(), 1 / sum, x.size());
}

/// x in standard deviations from its mean.
void standardise(std::span<float> x) {
  double mean = 0, square = 0;
  const auto n = static_cast<double>(x.size());
  for (const float number : x) mean += static_cast<double>(number) / n;
  for (const float number : x) square += (static_cast<double>(number) - mean) * (static_cast<double>(number) - mean);
  const double deviation = std::max(std::sqrt(square / std::max(n - 1, 1.0)), 1e-6);
  for (float& number : x) number = static_cast<float>((static_cast<double>(number) - mean) / deviation);
}

/// [dim][n] of rows [n][dim]
void transpose(std::span<const float> rows, std::size_t dim, std::vector<float>& out) {
  const std::size_t n = rows.size() / dim;
  out.resize(rows.size());
  for (std::size_t row = 0; row < n; ++row)
    for (std::size_t c = 0; c < dim; ++c) out[c * n + row] = rows[row * dim + c];
}

}  // namespace

// --- Expected attention ----------------------------------------------------------------------------------------------

namespace {

using Covariance = ExpectedAttention::Covariance;

/// Numbers that a query head's statistics take.
std::size_t statistics_of(Covariance covariance, std::size_t dim) {
  return dim + (covariance == Covariance::full ? dim * dim : covariance == Covariance::diagonal ? dim : 0);
}

/// A query more, of `count` with it (Welford, Technometrics 4, 1962); `deviation`: room for dim numbers.
void add_query(std::span<const float> query, float count, std::span<float> statistics, std::span<float> deviation) {
  const std::size_t dim = query.size();
  const auto mean = statistics.first(dim), products = statistics.subspan(dim);
  for (std::size_t c = 0; c < dim; ++c) {
    deviation[c] = query[c] - mean[c];
    mean[c] += deviation[c] / count;
  }
  const float weight = (count - 1) / count;
  if (products.size() == dim)
    for (std::size_t c = 0; c < dim; ++c) products[c] += weight * deviation[c] * deviation[c];
  if (products.size() == dim * dim && dim > 1)
    for (std::size_t c = 0; c < dim; ++c) {
      const float factor = weight * deviation[c];
      float* const line = &products[c * dim];
      for (std::size_t e = c; e < dim; ++e) line[e] += factor * deviation[e];
    }
}

/// z[row] = s y . m + s^2 / 2 y . C y for the rows y [n][dim].
void expect(std::span<const float> y, std::span<const float> statistics, float count, float scale, Scratch& scratch,
            std::span<float> z) {
  const std::size_t n = z.size(), dim = y.size() / n;
  const auto mean = statistics.first(dim), products = statistics.subspan(dim);
  for (std::size_t row = 0; row < n; ++row) z[row] = scale * ops::dot(&y[row * dim], mean.data(), dim);
  if (products.empty() || count == 0) return;
  const float factor = scale * scale / (2 * count);
  if (products.size() == dim) {
    for (std::size_t row = 0; row < n; ++row)
      for (std::size_t c = 0; c < dim; ++c) z[row] += factor * products[c] * y[row * dim + c] * y[row * dim + c];
    return;
  }
  auto &covariance = scratch.block, &turned = scratch.outputs;
  covariance.resize(dim * dim);
  for (std::size_t c = 0; c < dim; ++c)
    for (std::size_t e = c; e < dim; ++e) covariance[c * dim + e] = covariance[e * dim + c] = products[c * dim + e];
  turned.assign(n * dim, 0.0f);
  ops::add_product(y.data(), dim, 1, covariance.data(), dim, n, dim, dim, turned.data(), dim);
  for (std::size_t row = 0; row < n; ++row) z[row] += factor * ops::dot(&turned[row * dim], &y[row * dim], dim);
}

/// What is remembered of a lane's queries.
std::vector<float>& statistics(const Lane& lane, const Moment& moment, Covariance covariance) {
  const auto& shape = lane.layout().shape();
  const std::size_t count = 2 + shape.heads * moment.group * statistics_of(covariance, shape.head_dim);
  return remembered(lane, ExpectedAttention::state, count, 0.0f);
}

}  // namespace

void ExpectedAttention::watch(const KvLayer& layer, const Moment& moment) const {
  for (std::size_t l = 0; l < layer.lanes().size(); ++l) {
    const Lane& lane = layer.lanes()[l];
    const auto& shape = lane.layout().shape();
    const std::size_t dim = shape.head_dim, heads = shape.heads * moment.group, each = statistics_of(covariance, dim);
    auto& found = statistics(lane, moment, covariance);
    auto &query = moment.scratch->numbers, &deviation = moment.scratch->mean;
    query.resize(heads * dim);
    deviation.resize(dim);
    const auto q = queries_of(layer, l, moment);
    for (Position t = std::max({moment.first, sinks, whole(found[0])}); t < moment.next; ++t) {
      std::ranges::copy(q[static_cast<std::size_t>(t - moment.first)], query.begin());
      moment.rotation.undo(t, dim, query);
      found[0] = static_cast<float>(t + 1);
      found[1] += 1;
      for (std::size_t h = 0; h < heads; ++h)
        add_query({&query[h * dim], dim}, found[1], {&found[2 + h * each], each}, deviation);
    }
  }
}

void ExpectedAttention::score(const KvLayer& layer, std::size_t l, const Moment& moment, std::span<float> out) const {
  const Lane& lane = layer.lanes()[l];
  const auto& shape = lane.layout().shape();
  const std::size_t dim = shape.head_dim, each = statistics_of(covariance, dim);
  Scratch& scratch = *moment.scratch;
  const auto order = in_order(lane, moment, sinks, moment.next);
  std::ranges::fill(out, 0.0f);
  if (order.empty()) return;
  const auto& found = statistics(lane, moment, covariance);
  moment.rotation.mean(moment.next, moment.next + ahead, scratch.turns);
  auto &keys = scratch.keys, &z = scratch.values, &worth = scratch.weights, &value = scratch.numbers;
  keys.resize(order.size() * dim);
  z.resize(order.size());
  value.resize(dim);
  for (std::size_t h = 0; h < shape.heads; ++h) {
    for (std::size_t i = 0; i < order.size(); ++i) {
      const std::span key(&keys[i * dim], dim);
      lane.row(order[i]).key(h, key);
      moment.rotation.transposed(scratch.turns, key);
    }
    worth.assign(order.size(), 0.0f);
    for (std::size_t head = h * moment.group; head < (h + 1) * moment.group; ++head) {
      expect(keys, {&found[2 + head * each], each}, found[1], moment.query_scale, scratch, z);
      softmax(z);
      ops::add(worth.data(), z.data(), z.size());
    }
    for (std::size_t i = 0; i < order.size(); ++i) {
      lane.row(order[i]).value(h, value);
      out[order[i]] += (worth[i] / static_cast<float>(moment.group) + epsilon) *
                       std::sqrt(ops::dot(value.data(), value.data(), dim));
    }
  }
}

// --- R-KV ------------------------------------------------------------------------------------------------------------

void Redundancy::watch(const KvLayer& layer, const Moment& moment) const {
  for (std::size_t l = 0; l < layer.lanes().size(); ++l) {
    const auto q = queries_of(layer, l, moment);
    auto& ring = remembered(layer.lanes()[l], state, static_cast<std::size_t>(window) * (1 + q.cols), -1.0f);
    for (Position t = std::max(moment.first, moment.next - window); t < moment.next; ++t) {
      float* const slot = &ring[static_cast<std::size_t>(t % window) * (1 + q.cols)];
      slot[0] = static_cast<float>(t);
      std::ranges::copy(q[static_cast<std::size_t>(t - moment.first)], slot + 1);
    }
  }
}

namespace {

/// Adds to attention[i] what the remembered queries from position `begin` on give the first rows of keys [n][dim], of
/// one kv-head; returns how many queries there are.
std::size_t add_attention(std::span<const float> ring, std::size_t slots, std::size_t head, Position begin,
                          const Moment& moment, std::span<const float> keys, std::size_t dim,
                          std::span<float> attention, std::vector<float>& weights) {
  std::size_t count = 0;
  if (ring.empty()) return 0;
  const std::size_t stride = ring.size() / slots;
  weights.resize(attention.size());
  for (std::size_t s = 0; s < slots; ++s) {
    const float* const slot = &ring[s * stride];
    if (slot[0] < static_cast<float>(begin)) continue;
    for (std::size_t g = head * moment.group; g < (head + 1) * moment.group; ++g) {
      for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = moment.query_scale * ops::dot(slot + 1 + g * dim, &keys[i * dim], dim);
      if (moment.score_cap != 0) ops::soft_cap(weights.data(), moment.score_cap, weights.size());
      softmax(weights);
      ops::add(attention.data(), weights.data(), weights.size());
    }
    ++count;
  }
  return count;
}

/// red = softmax over rows j of the mean over i of cos(k_i, k_j), the latest row of those alike left out; keys [n][dim]
/// in the order of positions, and made as long as one.
void find_redundancy(std::span<float> keys, std::size_t dim, float alike, Scratch& scratch, std::span<float> red) {
  constexpr std::size_t together = 32;
  const std::size_t n = red.size();
  for (std::size_t i = 0; i < n; ++i) {
    float* const key = &keys[i * dim];
    const float norm = std::sqrt(ops::dot(key, key, dim));
    if (norm > 0) ops::scale(key, 1 / norm, dim);
  }
  auto &across = scratch.folded, &cosines = scratch.outputs;  // [dim][n], [together][n]
  transpose(keys, dim, across);
  std::ranges::fill(red, 0.0f);
  for (std::size_t first = 0; first < n; first += together) {
    const std::size_t count = std::min(together, n - first);
    cosines.assign(count * n, 0.0f);
    ops::add_product(&keys[first * dim], dim, 1, across.data(), n, count, dim, n, cosines.data(), n);
    for (std::size_t i = 0; i < count; ++i) {
      float* const line = &cosines[i * n];
      line[first + i] = 0;
      for (std::size_t j = n; j-- > 0;)
        if (line[j] > alike) {
          line[j] = 0;
          break;
        }
      ops::add(red.data(), line, n);
    }
  }
  ops::scale(red.data(), 1 / static_cast<float>(n), n);
  softmax(red);
}

}  // namespace

void Redundancy::score(const KvLayer& layer, std::size_t l, const Moment& moment, std::span<float> out) const {
  const Lane& lane = layer.lanes()[l];
  const auto& shape = lane.layout().shape();
  const std::size_t dim = shape.head_dim;
  Scratch& scratch = *moment.scratch;
  const auto order = in_order(lane, moment, 0, moment.next);
  const auto before = static_cast<std::size_t>(std::ranges::count_if(
      order, [&](std::size_t row) { return lane.born(row) < moment.next - window; }));  // the window, in order
  auto &keys = scratch.keys, &attention = scratch.values, &red = scratch.weights;
  keys.resize(order.size() * dim);
  red.resize(order.size());
  std::ranges::fill(out, 0.0f);
  const auto half = static_cast<std::size_t>(pool / 2);
  for (std::size_t h = 0; h < shape.heads && before > 0; ++h) {
    for (std::size_t i = 0; i < order.size(); ++i) lane.row(order[i]).key(h, {&keys[i * dim], dim});
    attention.assign(before, 0.0f);
    const std::size_t queries = add_attention(lane.state(state), static_cast<std::size_t>(window), h,
                                              moment.next - window, moment, keys, dim, attention, scratch.numbers);
    find_redundancy(keys, dim, alike, scratch, red);
    const float given = weight / static_cast<float>(std::max<std::size_t>(queries * moment.group, 1));
    for (std::size_t i = 0; i < before; ++i) {
      const std::size_t begin = i > half ? i - half : 0, end = std::min(before, i + half + 1);
      out[order[i]] += given * ops::max(&attention[begin], end - begin) - (1 - weight) * red[i];
    }
  }
}

// --- Compactor -------------------------------------------------------------------------------------------------------

namespace {

/// A matrix of independent normal numbers of variance 1 / cols, the same on every machine.
void fill_sketch(std::uint64_t seed, std::size_t cols, std::span<float> matrix) {
  std::mt19937_64 engine(seed);
  const auto uniform = [&] { return (static_cast<double>(engine() >> 11) + 0.5) * 0x1p-53; };
  for (float& number : matrix) {
    const double radius = std::sqrt(-2 * std::log(uniform()) / static_cast<double>(cols));
    number = static_cast<float>(radius * std::cos(2 * std::numbers::pi * uniform()));
  }
}

/// The Cholesky factor of a symmetric positive matrix [n][n], below its diagonal.
void factorise(std::vector<double>& a, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
}

/// leverage[row] of X [n][dim].
void find_leverage(std::span<const float> x, std::size_t dim, std::span<float> leverage) {
  const std::size_t n = leverage.size();
  std::vector<double> factor(dim * dim), solved(dim);
  for (std::size_t row = 0; row < n; ++row)
    for (std::size_t c = 0; c < dim; ++c)
      for (std::size_t e = 0; e <= c; ++e)
        factor[c * dim + e] += static_cast<double>(x[row * dim + c]) * static_cast<double>(x[row * dim + e]);
  for (std::size_t c = 0; c < dim; ++c) factor[c * dim + c] += 0.01;
  factorise(factor, dim);
  for (std::size_t row = 0; row < n; ++row) {
    double square = 0;  // of L^-1 x
    for (std::size_t c = 0; c < dim; ++c) {
      double sum = static_cast<double>(x[row * dim + c]);
      for (std::size_t e = 0; e < c; ++e) sum -= factor[c * dim + e] * solved[e];
      solved[c] = sum / factor[c * dim + c];
      square += solved[c] * solved[c];
    }
    leverage[row] = static_cast<float>(square);
  }
}

}  // namespace

void Leverage::score(const KvLayer& layer, std::size_t l, const Moment& moment, std::span<float> out) const {
  const Lane& lane = layer.lanes()[l];
  const auto& shape = lane.layout().shape();
  const std::size_t dim = shape.head_dim, small = static_cast<std::size_t>(sketch);
  Scratch& scratch = *moment.scratch;
  const auto order = in_order(lane, moment, sinks, moment.next - recent);
  std::ranges::fill(out, 0.0f);
  if (order.empty()) return;
  auto &keys = scratch.keys, &mean = scratch.mean, &matrix = scratch.block, &x = scratch.folded;
  auto& leverage = scratch.values;
  keys.resize(order.size() * dim);
  matrix.resize(dim * small);
  leverage.resize(order.size());
  for (std::size_t h = 0; h < shape.heads; ++h) {
    mean.assign(dim, 0.0f);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const std::span key(&keys[i * dim], dim);
      lane.row(order[i]).key(h, key);
      moment.rotation.undo(lane.born(order[i]), dim, key);
      ops::add(mean.data(), key.data(), dim);
    }
    ops::scale(mean.data(), 1 / static_cast<float>(order.size()), dim);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] -= mean[i % dim];
    fill_sketch(static_cast<std::uint64_t>(seed) * 65536 + layer.lanes().number(l) * shape.heads + h, small, matrix);
    x.assign(order.size() * small, 0.0f);
    ops::add_product(keys.data(), dim, 1, matrix.data(), small, order.size(), dim, small, x.data(), small);
    find_leverage(x, small, leverage);
    standardise(leverage);
    for (std::size_t i = 0; i < order.size(); ++i) out[order[i]] += leverage[i];
  }
}

namespace {

/// Adds what a block's queries [n][heads * dim] give its rows to BlockAttention::received.
void add_block(const Lane& lane, const Moment& moment, Position begin, Position end, std::span<const float> queries) {
  const auto& shape = lane.layout().shape();
  const std::size_t dim = shape.head_dim, heads = shape.heads * moment.group, width = heads * dim;
  Scratch& scratch = *moment.scratch;
  const auto order = in_order(lane, moment, begin, end);
  if (order.empty()) return;
  auto &keys = scratch.keys, &across = scratch.folded, &scores = scratch.outputs;
  keys.resize(order.size() * dim);
  const std::size_t count = queries.size() / width;
  const Slot received = lane.slot(BlockAttention::received);
  for (std::size_t h = 0; h < shape.heads; ++h) {
    for (std::size_t i = 0; i < order.size(); ++i) lane.row(order[i]).key(h, {&keys[i * dim], dim});
    transpose(keys, dim, across);
    for (std::size_t head = h * moment.group; head < (h + 1) * moment.group; ++head) {
      scores.assign(count * order.size(), 0.0f);
      ops::add_product(&queries[head * dim], width, 1, across.data(), order.size(), count, dim, order.size(),
                       scores.data(), order.size());
      ops::scale(scores.data(), moment.query_scale, scores.size());
      if (moment.score_cap != 0) ops::soft_cap(scores.data(), moment.score_cap, scores.size());
      for (std::size_t query = 0; query < count; ++query) {
        const std::span line(&scores[query * order.size()], order.size());
        softmax(line);
        for (std::size_t i = 0; i < order.size(); ++i)
          lane.evidence(received, order[i]) += line[i] / static_cast<float>(heads);
      }
    }
  }
}

}  // namespace

void BlockAttention::watch(const KvLayer& layer, const Moment& moment) const {
  const Position judged = moment.prompt_end - leverage.recent;
  for (std::size_t l = 0; l < layer.lanes().size(); ++l) {
    const Lane& lane = layer.lanes()[l];
    const auto q = queries_of(layer, l, moment);
    auto& found = lane.state(state);
    for (Position t = std::max(moment.first, leverage.sinks); t < std::min(moment.next, judged); ++t) {
      const auto begin_at = [&](Position first) { found.assign(1, static_cast<float>(first)); };
      if (found.empty()) begin_at(t);
      const Position begin = whole(found[0]);
      if (begin + static_cast<Position>((found.size() - 1) / q.cols) != t) begin_at(t);
      const auto query = q[static_cast<std::size_t>(t - moment.first)];
      found.insert(found.end(), query.begin(), query.end());
      if ((t + 1 - leverage.sinks) % block != 0 && t + 1 != judged) continue;
      add_block(lane, moment, whole(found[0]), t + 1, std::span(found).subspan(1));
      found.clear();
    }
    if (moment.ends_prompt()) std::vector<float>().swap(found);
  }
}

void BlockAttention::score(const KvLayer& layer, std::size_t l, const Moment& moment, std::span<float> out) const {
  leverage.score(layer, l, moment, out);
  const Lane& lane = layer.lanes()[l];
  const auto& shape = lane.layout().shape();
  const auto order = in_order(lane, moment, leverage.sinks, moment.next - leverage.recent);
  if (order.empty()) return;
  Scratch& scratch = *moment.scratch;
  auto &given = scratch.values, &pooled = scratch.weights, &value = scratch.numbers;
  given.resize(order.size());
  pooled.resize(order.size());
  value.resize(shape.head_dim);
  for (std::size_t i = 0; i < order.size(); ++i) {
    float square = 0;
    for (std::size_t h = 0; h < shape.heads; ++h) {
      lane.row(order[i]).value(h, value);
      square += ops::dot(value.data(), value.data(), value.size());
    }
    given[i] = lane.evidence(lane.slot(received), order[i]) * std::sqrt(square);
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    const float before = i > 0 ? given[i - 1] : 0, after = i + 1 < given.size() ? given[i + 1] : 0;
    pooled[i] = (before + given[i] + after) / 3;
  }
  standardise(pooled);
  for (std::size_t i = 0; i < order.size(); ++i) out[order[i]] = blend * out[order[i]] + pooled[i];
}

}  // namespace pith::prune
