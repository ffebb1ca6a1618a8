// SPDX-License-Identifier: MIT
// What happens to rows between a mark and a commit can be undone: all that they carry is bitwise what it was, in place.
#include "pith/cache/journal.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "pith/cache/kv_cache.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

constexpr std::size_t layers = 2, head_dim = 32, gate_dim = 8;
constexpr Column worth{"worth"};

/// All that rows carry, row by row.
std::vector<float> contents(const Lane& lane) {
  std::vector<float> all;
  const auto& shape = lane.layout().shape();
  std::vector<float> key(head_dim), value(head_dim), gate_key(shape.gate_dim);
  for (std::size_t i = 0; i < lane.rows(); ++i) {
    const Row row = lane.row(i);
    all.insert(all.end(),
               {static_cast<float>(row.born()), static_cast<float>(row.until()), row.pinned() ? 1.0f : 0.0f});
    for (const Column column : shape.evidence) all.push_back(row.evidence(lane.slot(column)));
    for (std::size_t h = 0; h < shape.heads; ++h) {
      row.key(h, key);
      row.value(h, value);
      all.insert(all.end(), key.begin(), key.end());
      all.insert(all.end(), value.begin(), value.end());
    }
    if (shape.gate_dim > 0) row.gate_key(gate_key);
    all.insert(all.end(), gate_key.begin(), gate_key.end());
  }
  return all;
}

struct State {
  std::vector<std::vector<float>> lanes;  // and the gates'
  std::uint64_t dropped;
  bool operator==(const State&) const = default;
};

State state_of(KvCache& cache) {
  State state{{}, cache.log().dropped()};
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
    for (const Lane& lane : cache.lanes(layer)) state.lanes.push_back(contents(lane));
    if (const KvLayer here = cache.layer(layer); here.gate_is_apart()) state.lanes.push_back(contents(here.gate()));
  }
  return state;
}

/// A step of a layer: rows come, are closed, evicted, judged and changed.
void step(KvCache& cache, std::size_t layer, Position first, int count, Random& random) {
  cache.begin_step(layer, first);
  std::vector<float> numbers(head_dim);
  const auto some = [&](std::size_t n) {
    for (float& number : numbers) number = random.normal();
    return std::span<const float>(numbers).first(n);
  };
  const KvLayer here = cache.layer(layer);
  for (Position born = first; born < first + count; ++born) {
    cache.append(layer, born, random.integer(0, 3) == 0 ? born + random.integer(1, 30) : never);
    for (const Lane& lane : here.lanes()) {
      const Row row = lane.row(lane.rows() - 1);
      row.set_key(0, some(head_dim));
      row.set_value(0, some(head_dim));
      row.evidence(lane.slot(worth)) = random.normal();
      if (!here.gate_is_apart()) row.set_gate_key(some(gate_dim));
    }
    if (here.gate_is_apart()) here.gate().row(here.gate().rows() - 1).set_gate_key(some(gate_dim));
  }
  const Position next = first + count;
  for (std::size_t l = 0; l < here.lanes().size(); ++l) {
    const Lane& lane = here.lanes()[l];
    const auto any = [&] { return static_cast<std::size_t>(random.integer(0, static_cast<int>(lane.rows()) - 1)); };
    for (std::size_t i = 0; i < lane.rows(); ++i) lane.evidence(lane.slot(worth), i) += random.normal();
    for (int i = 0; i < 3; ++i) lane.close(any(), first + random.integer(0, count));
    for (int i = 0; i < 2; ++i) here.changing(l, any()).set_value(0, some(head_dim));
    for (int i = random.integer(0, 4); i > 0 && lane.rows() > 4; --i) here.evict(l, any(), next);
    here.changing(l, any()).set_key(0, some(head_dim));
  }
  cache.sweep(layer, next);
}

void check(const KvLayouts& layouts, std::size_t lanes, std::uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  PagePool pool(0);
  {
    KvCache cache(layouts, pool, layers, lanes, 64, seed % 2 == 0 ? DropLog::Keep::history : DropLog::Keep::counts);
    const Position ahead[] = {0, 5, 70, 81};
    cache.keep_ahead(ahead);
    Position length = 0;
    const auto feed = [&] {
      const int count = random.integer(1, 20);
      for (std::size_t layer = 0; layer < layers; ++layer) step(cache, layer, length, count, random);
      length += count;
    };
    for (int i = 0; i < 8; ++i) feed();
    const std::size_t bytes = pool.bytes_used();
    cache.mark();
    std::map<Position, State> states = {{length, state_of(cache)}};
    for (int i = 0; i < 30; ++i) {
      for (int steps = random.integer(1, 6); steps > 0; --steps) {
        feed();
        states.emplace(length, state_of(cache));
      }
      const auto back = std::next(states.begin(), random.integer(0, static_cast<int>(states.size()) - 1));
      cache.rewind(back->first);
      EXPECT_TRUE(state_of(cache) == back->second) << "from " << length << " to " << back->first;
      length = back->first;
      states.erase(std::next(back), states.end());
    }
    cache.rewind(states.begin()->first);
    EXPECT_TRUE(state_of(cache) == states.begin()->second);
    cache.commit();
    EXPECT_EQ(pool.bytes_used(), bytes);
    feed();
  }
  EXPECT_EQ(pool.bytes_used(), 0u);
}

TEST(JournalTest, UndoesWhateverHappensToRows) {
  for (const KvFormat format : kv_formats)
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      SCOPED_TRACE(name(format));
      check({PageLayout({.keys = format,
                         .values = format,
                         .head_dim = head_dim,
                         .gate_dim = gate_dim,
                         .evidence = column::gate_logit | worth})},
            1, seed);
      check({PageLayout({.keys = format, .values = format, .head_dim = head_dim, .evidence = worth}),
             PageLayout({.heads = 0, .gate_dim = gate_dim, .evidence = column::holders})},
            3, seed);
    }
}

TEST(JournalTest, HoldsTheMemoryThatGoingBackTakes) {
  const KvLayouts layouts{PageLayout({.head_dim = head_dim, .evidence = worth})};
  const std::size_t page = layouts.kv.bytes();
  PagePool pool(4 * page);
  KvCache cache(layouts, pool, 1, 1, 64, DropLog::Keep::counts);
  for (Position born = 0; born < 64; ++born) cache.append(0, born, never);
  cache.mark();
  cache.begin_step(0, 64);
  for (std::size_t row = 64; row-- > 1;) cache.layer(0).evict(0, row, 64);
  EXPECT_EQ(cache.bytes(), 2 * page);
  std::byte* const others[] = {pool.take(page), pool.take(page)};  // all that is left
  cache.rewind(64);
  EXPECT_EQ(cache.rows(0), 64u);
  cache.commit();
  for (std::byte* const other : others) pool.give(other, page);
}

}  // namespace
}  // namespace pith::testing
