// SPDX-License-Identifier: MIT
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <string>

#include "pith/error.hpp"
#include "pith/nn/decoder.hpp"

namespace pith::inline nn {

namespace {

/// A column that is filled when its row is made, from the keys and values of the heads of its lane.
struct AtAppend {
  Column column;
  float (*of)(Position born, std::span<const float> keys, std::span<const float> values);
};

constexpr AtAppend at_append[] = {
    {column::value_norm,
     [](Position, std::span<const float>, std::span<const float> values) {
       return std::sqrt(ops::dot(values.data(), values.data(), values.size()));
     }},
    {column::times, [](Position, std::span<const float>, std::span<const float>) { return 1.0f; }},
    {column::last_attended,
     [](Position born, std::span<const float>, std::span<const float>) { return static_cast<float>(born); }},
};

// A number of a new row takes as long as so many multiply-adds: it is written where the lane has room, into memory that
// no cache holds.
constexpr std::size_t number_cost = 64;

/// What a pass is about to store, of all its tokens.
struct Stored {
  const char* what;
  View<const float> rows;
  KvFormat format;
  Side side;
  std::size_t dim;  // numbers that are stored as one row

  bool fits(std::size_t token) const {
    if (format == KvFormat::f32) return true;
    for (std::size_t i = 0; i < rows.cols; i += dim)
      if (!pith::fits(format, side, rows[token].data() + i, dim)) return false;
    return true;
  }
};

[[noreturn]] void refuse(const Stored& stored, std::size_t layer, std::size_t token, std::size_t segment) {
  float largest = 0, room[max_head_dim];
  for (std::size_t i = 0; i < stored.rows.cols; i += stored.dim) {
    const float* const row = as_stored(stored.format, stored.side, stored.rows[token].data() + i, stored.dim, room);
    for (std::size_t d = 0; d < stored.dim; ++d)
      if (std::isfinite(row[d])) largest = std::max(largest, std::fabs(row[d]));
  }
  const auto text = [](float number) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.5g", static_cast<double>(number));
    return std::string(digits);
  };
  throw SegmentError(ErrorCode::unsupported,
                     "layer " + std::to_string(layer) + ", " + stored.what + " in a cache of " +
                         std::string(name(stored.format)) + ": expected numbers below " +
                         text(overflow(stored.format)) + ", or a cache of f32, which holds all, found " + text(largest),
                     segment);
}

}  // namespace

// An infinity in the cache would come out as logits that are NaN, far from its cause.
void check_range(const Pass& pass, std::size_t layer, const Workspace& ws, const Threads& threads) {
  const auto alive = std::ranges::find_if(pass.segments, [](const Segment& s) { return s.cache != nullptr; });
  if (alive == pass.segments.end()) return;
  const auto& shape = alive->cache->lanes(layer)[0].layout().shape();  // those of the others are the same
  const KvLayer lanes = alive->cache->layer(layer);
  const auto& gate = (lanes.gate_is_apart() ? lanes.gate() : lanes.lanes()[0]).layout().shape();
  const Stored all[] = {
      {"keys", ws.k.view(), shape.keys, Side::keys, shape.head_dim},
      {"values", ws.v.view(), shape.values, Side::values, shape.head_dim},
      {"gate keys", ws.gate.keys(), ws.needs.gate ? gate.gate_keys : KvFormat::f32, Side::keys, ws.gate.keys().cols}};
  if (std::ranges::all_of(all, [](const Stored& stored) { return stored.format == KvFormat::f32; })) return;
  std::atomic<bool> fit = true;
  threads.run_rows(ws.k.rows(), ws.k.cols(), 2, [&](std::size_t t) {
    for (const Stored& stored : all)
      if (!stored.fits(t)) fit = false;
  });
  if (fit) return;
  for (std::size_t s = 0; s < pass.segments.size(); ++s) {
    const Segment& segment = pass.segments[s];
    if (segment.cache == nullptr) continue;
    for (const Stored& stored : all)
      for (std::size_t t = segment.row; t < std::min(segment.row + segment.count, ws.k.rows()); ++t)
        if (!stored.fits(t)) refuse(stored, layer, t, s);
  }
}

void store(const Config& config, const Pass& pass, std::size_t layer, const Workspace& ws, const Threads& threads) {
  const auto dim = static_cast<std::size_t>(config.head_dim);
  const std::size_t gate_dim = ws.needs.gate ? static_cast<std::size_t>(config.gate->dim) : 0;
  const int window = config.layers[layer].window;
  for_each_segment(pass, threads, number_cost * ws.k.rows() * ws.k.cols(), [&](const Segment& segment, const Threads&) {
    const auto lanes = segment.cache->lanes(layer);
    const std::size_t heads = lanes[0].layout().shape().heads;
    segment.cache->begin_step(layer, segment.first);
    for (std::size_t t = segment.row; t < segment.row + segment.count; ++t) {
      const Position position = pass.positions[t];
      segment.cache->append(layer, position, window > 0 ? position + window : never);
      for (std::size_t l = 0; l < lanes.size(); ++l) {
        const Row row = lanes[l].row(lanes[l].rows() - 1);
        const auto keys = ws.k[t].subspan(l * heads * dim, heads * dim);
        const auto values = ws.v[t].subspan(l * heads * dim, heads * dim);
        for (std::size_t h = 0; h < heads; ++h) {
          row.set_key(h, keys.subspan(h * dim, dim));
          row.set_value(h, values.subspan(h * dim, dim));
        }
      }
      if (!ws.needs.gate) continue;
      const auto remember = [&](const Lane& lane, std::size_t number) {
        lane.row(lane.rows() - 1).set_gate_key(ws.gate.keys()[t].subspan(number * gate_dim, gate_dim));
      };
      if (const KvLayer here = segment.cache->layer(layer); here.gate_is_apart()) {
        remember(here.gate(), 0);
      } else {
        for (std::size_t l = 0; l < lanes.size(); ++l) remember(lanes[l], l);
      }
    }
    for (const auto& [column, of] : at_append)
      for (std::size_t l = 0; l < lanes.size(); ++l) {
        const Slot slot = lanes[l].slot(column);
        if (!slot) continue;
        for (std::size_t i = 0; i < segment.count; ++i) {
          const std::size_t t = segment.row + i, from = l * heads * dim;
          lanes[l].evidence(slot, lanes[l].rows() - segment.count + i) =
              of(pass.positions[t], ws.k[t].subspan(from, heads * dim), ws.v[t].subspan(from, heads * dim));
        }
      }
  });
}

}  // namespace pith::inline nn
