// SPDX-License-Identifier: MIT
#include "trace/drops.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "trace/style.hpp"

namespace pith::trace {

namespace {

constexpr std::size_t most_arrows = 60;          // of one token, and of several together
constexpr double page_bow = 12, layer_bow = 18;  // pixels above a line of the text

using Dropped = std::map<std::size_t, double>;  // token, fraction of the lanes in which it was dropped

/// For each token what it dropped.
std::vector<Dropped> droppers(const Trace& trace) {
  std::vector<Dropped> all(trace.tokens.size());
  for (const auto& layer : trace.drop_at)
    for (const auto& lane : layer)
      for (std::size_t j = 0; j < lane.size(); ++j)
        if (lane[j] >= 0 && static_cast<std::size_t>(lane[j]) < all.size())
          all[static_cast<std::size_t>(lane[j])][j] += 1 / static_cast<double>(trace.drop_at.size() * layer.size());
  return all;
}

Arrow arrow(const Place& from, const Place& to, Colour colour, double share, double most_bow) {
  // Within a line it stays between the lines.
  const double bow = from.y == to.y ? std::min(most_bow, 6 + std::abs(from.middle() - to.middle()) / 40) : most_bow + 4;
  const double x0 = from.middle(), x1 = to.middle();
  return {{x0, from.y}, {x0, from.y - bow}, {x1, to.y - bow}, {x1, to.y}, blend(white, colour, 0.45 + 0.55 * share),
          1 + share / 2};
}

Line frame(const Place& place, Colour colour) {
  const double left = place.x, right = place.x + place.width, bottom = place.y + box;
  return {{{left, place.y}, {right, place.y}, {right, bottom}, {left, bottom}, {left, place.y}}, colour, 1.5};
}

void add_drops(Drops& drops, const Text& text, std::size_t from, const Dropped& dropped, Colour colour) {
  const Place& place = text.places[from];
  const std::size_t step = (dropped.size() + most_arrows - 1) / most_arrows;
  std::size_t i = 0;
  for (const auto& [j, share] : dropped)
    if (i++ % step == 0) drops.arrows.push_back(arrow(place, text.places[j], colour, share, page_bow));
  if (!dropped.empty()) drops.frames.push_back(frame(place, colour));
}

}  // namespace

bool tokens_decided(const Trace& trace) {
  for (std::size_t l = 0; l < trace.drop_at.size(); ++l)
    for (std::size_t h = 0; h < trace.drop_at[l].size(); ++h)
      for (std::size_t j = 0; j < trace.tokens.size(); ++j)
        if (trace.drop_at[l][h][j] >= 0 && static_cast<std::size_t>(trace.drop_at[l][h][j]) < trace.tokens.size() &&
            (trace.gate_score.empty() || std::isnan(trace.gate_score[l][h][j])))
          return false;
  return true;
}

Drops drops_of(const Trace& trace, const Text& text, std::size_t from) {
  Drops drops;
  add_drops(drops, text, from, droppers(trace)[from], self);
  return drops;
}

Drops greatest_drops(const Trace& trace, const Text& text) {
  const std::vector<Dropped> all = droppers(trace);
  std::vector<std::size_t> order(all.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return all[a].size() > all[b].size(); });
  Drops drops;
  std::size_t drawn = 0, arrows = 0;
  for (const std::size_t i : order) {
    if (all[i].empty() || drawn == std::size(arrow_colours) || (drawn > 0 && arrows + all[i].size() > most_arrows))
      break;
    add_drops(drops, text, i, all[i], arrow_colours[drawn]);
    arrows += all[i].size();
    ++drawn;
  }
  return drops;
}

Drops every_drop(const Trace& trace, const Text& text) {
  const std::vector<Dropped> all = droppers(trace);
  Drops drops;
  for (std::size_t from = 0; from < all.size(); ++from) {
    if (all[from].empty()) continue;
    const Colour colour = arrow_colours[drops.frames.size() % std::size(arrow_colours)];
    for (auto at = all[from].begin(); at != all[from].end();) {
      Place run = text.places[at->first];
      double most = 0;  // of the lanes
      for (std::size_t next = at->first; at != all[from].end() && at->first == next && text.places[next].y == run.y;
           ++at, ++next) {
        run.width = text.places[next].x + text.places[next].width - run.x;
        most = std::max(most, at->second);
      }
      drops.grounds.push_back({run.x, run.y, run.width, box, blend(white, colour, 0.2)});
      drops.arrows.push_back(arrow(text.places[from], run, colour, most, layer_bow));
    }
    drops.frames.push_back(frame(text.places[from], colour));
  }
  return drops;
}

}  // namespace pith::trace
