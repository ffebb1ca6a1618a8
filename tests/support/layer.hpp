// SPDX-License-Identifier: MIT
// One layer of rows that a test writes by hand, for the parts of policies to judge.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "pith/prune/policy.hpp"

namespace pith::testing {

constexpr float infinity = std::numeric_limits<float>::infinity();
using Vector = std::vector<float>;
using Tokens = std::vector<Position>;

/// One layer whose kv-heads have lanes of their own, or lie in a lane by so many; token j is row j of each.
class Layer {
 public:
  Layer(std::size_t lanes, std::size_t head_dim, const Columns& columns = {}, std::size_t heads = 1)
      : layouts_{PageLayout({.heads = heads, .head_dim = head_dim, .evidence = columns})},
        pool_(0),
        cache_(layouts_, pool_, 1, lanes, 0, DropLog::Keep::history) {}

  const Lane& lane(std::size_t l) { return cache_.lanes(0)[l]; }
  KvLayer layer() { return cache_.layer(0); }

  /// key, value: [heads * head_dim], the same in each lane.
  void append(const Vector& key, const Vector& value) {
    cache_.append(0, next_++, never);
    for (const Lane& lane : cache_.lanes(0)) {
      const Row row = lane.row(lane.rows() - 1);
      for (std::size_t h = 0; h < shape().heads; ++h) {
        row.set_key(h, std::span(key).subspan(h * shape().head_dim, shape().head_dim));
        row.set_value(h, std::span(value).subspan(h * shape().head_dim, shape().head_dim));
      }
    }
  }
  void append(std::size_t n) {
    const Vector ones(shape().heads * shape().head_dim, 1);
    for (; n > 0; --n) append(ones, ones);
  }
  void set(std::size_t l, Column column, const Vector& numbers) {
    for (std::size_t row = 0; row < numbers.size(); ++row) lane(l).evidence(lane(l).slot(column), row) = numbers[row];
  }

  prune::Moment moment(std::size_t n_layers = 1) {
    return {.n_layers = n_layers, .first = 0, .next = next_, .prompt_end = next_, .scratch = &scratch_};
  }

  /// As if the latest tokens were a pass of their own: q [tokens][query heads * head_dim].
  prune::Moment pass(const Vector& q, std::size_t tokens) {
    prune::Moment m = moment();
    m.first = next_ - static_cast<Position>(tokens);
    m.q = View<const float>(q.data(), tokens, q.size() / tokens);
    return m;
  }

  template <class S>
  Vector scores(const S& scorer, std::size_t l = 0) {
    Vector out(lane(l).rows());
    scorer.score(layer(), l, moment(), out);
    return out;
  }

  std::vector<Position> tokens(std::size_t l = 0) {
    std::vector<Position> all;
    for (std::size_t row = 0; row < lane(l).rows(); ++row) all.push_back(lane(l).born(row));
    std::ranges::sort(all);
    return all;
  }

 private:
  const PageLayout::Shape& shape() const { return layouts_.kv.shape(); }

  KvLayouts layouts_;
  PagePool pool_;
  KvCache cache_;
  prune::Scratch scratch_;
  Position next_ = 0;
};

}  // namespace pith::testing
