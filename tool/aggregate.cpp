// SPDX-License-Identifier: MIT
#include "aggregate.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <utility>

#include "pith/trace.hpp"
#include "tool.hpp"

namespace pith::tool {

namespace {

/// 0, 1, 2-3, 4-7, 8-15 …
std::size_t octave(std::size_t n) { return static_cast<std::size_t>(std::bit_width(n)); }
std::size_t first_of(std::size_t octave) { return octave == 0 ? 0 : std::size_t{1} << (octave - 1); }

std::string octave_name(std::size_t octave) {
  const std::size_t first = first_of(octave), last = first_of(octave + 1) - 1;
  return first == last ? std::to_string(first) : std::to_string(first) + "-" + std::to_string(last);
}

template <class Name>
View view(std::string name, std::string title, const std::vector<Bin>& bins, Name name_of) {
  View v{std::move(name), std::move(title), {}};
  for (std::size_t i = 0; i < bins.size(); ++i)
    if (bins[i].pairs > 0) v.bins.push_back({std::string(name_of(i)), bins[i].pairs, bins[i].visible});
  return v;
}

}  // namespace

double Bin::kept() const {
  return std::accumulate(visible.begin(), visible.end(), 0.0) / (pairs * static_cast<double>(visible.size()));
}

Aggregate::Aggregate(std::size_t n_layers) : n_layers_(n_layers), all_{"", 0, std::vector<double>(n_layers)} {}

void Aggregate::count(std::vector<Bin>& bins, std::size_t bin, double pairs) {
  if (bins.size() <= bin) bins.resize(bin + 1, {"", 0, std::vector<double>(n_layers_)});
  bins[bin].pairs += pairs;
}

void Aggregate::see(std::vector<Bin>& bins, std::size_t bin, std::size_t layer, double pairs) {
  bins[bin].visible[layer] += pairs;
}

void Aggregate::add(std::span<const TokenClass> classes, const DropAt& drop_at) {
  const std::size_t n = classes.size();
  ++windows_;
  tokens_ += n;
  for (std::size_t i = 0; i < n; ++i) {
    const auto later = static_cast<double>(n - i), earlier = static_cast<double>(i + 1);
    all_.pairs += later;
    count(classes_, static_cast<std::size_t>(classes[i]), later);
    count(positions_, octave(i), later);
    count(queries_, octave(i), earlier);
    count(distances_, octave(i), later);  // token 0 has a query at distance i, as has every token up to n - 1 - i
  }
  for (std::size_t layer = 0; layer < drop_at.size(); ++layer) {
    const double lane_share = 1 / static_cast<double>(drop_at[layer].size());
    for (const auto& lane : drop_at[layer])
      for (std::size_t j = 0; j < n; ++j) {
        const std::size_t until = lane[j] < 0 ? n : std::min(n, static_cast<std::size_t>(lane[j]));
        const std::size_t distances = until - j;  // it is seen from 0 … distances - 1
        const double seen = static_cast<double>(distances) * lane_share;
        all_.visible[layer] += seen;
        see(classes_, static_cast<std::size_t>(classes[j]), layer, seen);
        see(positions_, octave(j), layer, seen);
        for (std::size_t bin = 0; first_of(bin) < distances; ++bin)
          see(distances_, bin, layer,
              static_cast<double>(std::min(distances, first_of(bin + 1)) - first_of(bin)) * lane_share);
      }
    const std::vector<double> rows = kept_rows(drop_at[layer]);
    for (std::size_t i = 0; i < n; ++i) see(queries_, octave(i), layer, rows[i]);
  }
}

std::vector<double> Aggregate::kept_per_layer() const {
  std::vector<double> kept;
  for (const double visible : all_.visible) kept.push_back(visible / all_.pairs);
  return kept;
}

std::vector<View> Aggregate::views() const {
  View layers{"layer", "by layer", {}};
  for (std::size_t l = 0; l < n_layers_; ++l) layers.bins.push_back({std::to_string(l), all_.pairs, {all_.visible[l]}});
  return {std::move(layers), view("distance", "by distance from query to token", distances_, octave_name),
          view("class", "by class of the token", classes_, [](std::size_t i) { return token_classes[i]; }),
          view("position", "by position of the token in the window", positions_, octave_name),
          view("query", "by position of the query in the window", queries_, octave_name)};
}

nlohmann::ordered_json to_json(const Aggregate& aggregate) {
  nlohmann::ordered_json out{{"windows", aggregate.windows()},
                             {"tokens", aggregate.tokens()},
                             {"kept", aggregate.kept()},
                             {"kept_per_layer", aggregate.kept_per_layer()}};
  for (const View& view : aggregate.views()) {
    auto& bins = out["by_" + view.name] = nlohmann::ordered_json::array();
    for (const Bin& bin : view.bins) {
      bins.push_back({{"bin", bin.name}, {"pairs", bin.pairs}, {"kept", bin.kept()}});
      if (bin.visible.size() == 1) continue;
      for (const double visible : bin.visible) bins.back()["kept_per_layer"].push_back(visible / bin.pairs);
    }
  }
  return out;
}

std::string to_csv(const Aggregate& aggregate) {
  std::ostringstream out;
  out.precision(9);
  out << "view,bin,layer,pairs,kept\n";
  for (const View& view : aggregate.views())
    for (const Bin& bin : view.bins) {
      const std::string start = view.name + "," + bin.name + ",";
      out << start << (view.name == "layer" ? bin.name : "all") << ',' << std::llround(bin.pairs) << ',' << bin.kept()
          << '\n';
      for (std::size_t l = 0; view.name != "layer" && l < bin.visible.size(); ++l)
        out << start << l << ',' << std::llround(bin.pairs) << ',' << bin.visible[l] / bin.pairs << '\n';
    }
  return out.str();
}

std::string to_text(const Aggregate& aggregate) {
  constexpr std::size_t width = 30;
  std::string out = "kept " + percent_text(aggregate.kept()) +
                    " of the context: " + std::to_string(aggregate.tokens()) + " tokens in " +
                    std::to_string(aggregate.windows()) + " windows\n";
  for (const View& view : aggregate.views()) {
    out += "\n" + view.title + "\n";
    for (const Bin& bin : view.bins) {
      const auto full = static_cast<std::size_t>(std::lround(bin.kept() * width));
      out += "  " + bin.name + std::string(14 - std::min<std::size_t>(13, bin.name.size()), ' ');
      for (std::size_t i = 0; i < width; ++i) out += i < full ? "█" : "·";
      out += " " + percent_text(bin.kept()) + "\n";
    }
  }
  return out;
}

Drawing draw_chart(const Aggregate& aggregate, const std::string& title) {
  constexpr double margin = 20, row = 20, names = 110, bar = 220, column = 420, panel_gap = 24;  // pixels
  constexpr Colour ink{28, 33, 39}, faint{87, 96, 106}, ground{230, 233, 237}, fill{31, 95, 168};
  Drawing chart{2 * column + margin, 0, {}};
  chart.shapes.push_back(label("Visible pairs (query, token at or before it)", margin, margin + 12, ink, 15));
  Label subtitle = label(title, margin, margin + 30, faint);
  const double room = chart.width - 2 * margin;
  if (text_width(title, subtitle.size) > room) subtitle.width = room;
  chart.shapes.push_back(std::move(subtitle));
  double ends[] = {margin + 60, margin + 60};  // of the two columns so far
  for (const View& view : aggregate.views()) {
    const std::size_t side = ends[1] < ends[0] ? 1 : 0;
    const double x = margin + static_cast<double>(side) * column;
    double& y = ends[side];
    chart.shapes.push_back(label(view.title, x, y, ink, 12));
    for (const Bin& bin : view.bins) {
      y += row;
      chart.shapes.push_back(label(bin.name, x, y, faint));
      chart.shapes.push_back(Rect{x + names, y - 11, bar, 14, ground});
      chart.shapes.push_back(Rect{x + names, y - 11, std::round(bar * bin.kept()), 14, fill});
      chart.shapes.push_back(label(percent_text(bin.kept()), x + names + bar + 8, y, ink));
    }
    y += row + panel_gap;
  }
  chart.height = std::max(ends[0], ends[1]) - row;
  return chart;
}

}  // namespace pith::tool
