// SPDX-License-Identifier: MIT
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
  float (*of)(std::span<const float> keys, std::span<const float> values);
};

constexpr AtAppend at_append[] = {
    {column::value_norm,
     [](std::span<const float>, std::span<const float> values) {
       return std::sqrt(ops::dot(values.data(), values.data(), values.size()));
     }},
};

/// `what`: "keys", "values" or "gate keys". An infinity would come out as "logits are NaN", far from its cause.
void check(const Pass& pass, std::size_t layer, const char* what, View<const float> rows, KvFormat format,
           const Threads& threads) {
  if (format == KvFormat::f32) return;
  std::atomic<bool> fit = true;
  for_each_segment(pass, threads, rows.rows * rows.cols, [&](const Segment& segment, const Threads&) {
    for (std::size_t t = segment.row; t < segment.row + segment.count; ++t)
      if (!fits(format, rows[t].data(), rows.cols)) fit = false;
  });
  if (fit) return;
  float largest = 0;
  for (std::size_t t = 0; t < rows.rows; ++t)
    for (const float number : rows[t])
      if (std::isfinite(number)) largest = std::max(largest, std::fabs(number));
  const auto text = [](float number) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.5g", static_cast<double>(number));
    return std::string(digits);
  };
  fail(ErrorCode::unsupported,
       "layer " + std::to_string(layer) + ": " + what + " in a cache of " + std::string(name(format)),
       "numbers below " + text(overflow(format)) + " (f32 holds all)", text(largest));
}

}  // namespace

void store(const Config& config, const Pass& pass, std::size_t layer, const Workspace& ws, const Threads& threads) {
  const auto dim = static_cast<std::size_t>(config.head_dim);
  const int window = config.layers[layer].window;
  for (const Segment& segment : pass.segments) {
    if (segment.cache == nullptr) continue;
    const auto& shape = segment.cache->lanes(layer)[0].layout().shape();
    check(pass, layer, "keys", ws.k.view(), shape.keys, threads);
    check(pass, layer, "values", ws.v.view(), shape.values, threads);
    if (ws.needs.gate)
      check(pass, layer, "gate keys", ws.gate.keys(), segment.cache->layer(layer).gate().layout().shape().gate_keys,
            threads);
    break;  // the others' are the same
  }
  for_each_segment(pass, threads, 2 * ws.k.rows() * ws.k.cols(), [&](const Segment& segment, const Threads&) {
    const auto lanes = segment.cache->lanes(layer);
    const std::size_t heads = lanes[0].layout().shape().heads;
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
      if (ws.needs.gate) {
        const Lane& gate = segment.cache->layer(layer).gate();
        gate.row(gate.rows() - 1).set_gate_key(ws.gate.keys()[t]);
      }
    }
    for (const auto& [column, of] : at_append)
      for (std::size_t l = 0; l < lanes.size(); ++l) {
        const Slot slot = lanes[l].slot(column);
        if (!slot) continue;
        for (std::size_t i = 0; i < segment.count; ++i) {
          const std::size_t t = segment.row + i, from = l * heads * dim;
          lanes[l].evidence(slot, lanes[l].rows() - segment.count + i) =
              of(ws.k[t].subspan(from, heads * dim), ws.v[t].subspan(from, heads * dim));
        }
      }
  });
}

}  // namespace pith::inline nn
