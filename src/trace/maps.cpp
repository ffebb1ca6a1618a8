// SPDX-License-Identifier: MIT
#include "trace/maps.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trace/style.hpp"

namespace pith::trace {

namespace {

constexpr std::size_t most_cells = 300;  // per side of a map
constexpr double panel_gap = 18, title = 20, curve = 30, panel_end = 26;
constexpr std::size_t shades = 8;  // of a cell of the map that stands for several pairs

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, value);
  return text;
}

/// Tokens per cell of a map, and cells per side, each of a whole number of half pixels.
struct Grid {
  std::size_t tokens, cells;
  double cell;  // pixels

  Grid(std::size_t n, double map_size) {
    tokens = (n + most_cells - 1) / most_cells;
    cells = (n + tokens - 1) / tokens;
    cell = std::min(16.0, std::max(1.0, std::round(2 * map_size / static_cast<double>(cells))) / 2);
  }
  double side() const { return cell * static_cast<double>(cells); }
};

/// Of the pairs (query, token) of each cell on or below the diagonal, the fraction that is visible: [token][query].
std::vector<std::vector<double>> visible_pairs(const std::vector<std::vector<std::int32_t>>& lanes, const Grid& grid,
                                               std::size_t n) {
  std::vector<std::vector<double>> seen_pairs(grid.cells, std::vector<double>(grid.cells)), pairs = seen_pairs;
  for (const auto& lane : lanes)
    for (std::size_t j = 0; j < n; ++j) {
      const std::size_t until = lane[j] < 0 ? n : static_cast<std::size_t>(lane[j]);
      for (std::size_t q = j / grid.tokens; q < grid.cells; ++q) {
        const std::size_t first = std::max(j, q * grid.tokens), past = std::min(n, (q + 1) * grid.tokens);
        pairs[j / grid.tokens][q] += static_cast<double>(past - first);
        if (until > first) seen_pairs[j / grid.tokens][q] += static_cast<double>(std::min(until, past) - first);
      }
    }
  for (std::size_t j = 0; j < grid.cells; ++j)
    for (std::size_t q = j; q < grid.cells; ++q) seen_pairs[j][q] /= pairs[j][q];
  return seen_pairs;
}

/// The map of the queries before `now`.
void draw_map(Drawing& drawing, const std::vector<std::vector<std::int32_t>>& lanes, const Grid& grid, std::size_t n,
              std::size_t now, double x, double y) {
  const auto share = visible_pairs(lanes, grid, n);
  const std::size_t rows = (now + grid.tokens - 1) / grid.tokens;
  std::vector<std::pair<std::size_t, Rect>> runs;  // by shade
  for (std::size_t j = 0; j < rows; ++j) {
    const auto shade = [&](std::size_t q) { return static_cast<std::size_t>(std::lround(share[j][q] * shades)); };
    const double left = x + static_cast<double>(j) * grid.cell;
    for (std::size_t q = j, past = j; q < rows; q = past) {
      while (past < rows && shade(past) == shade(q)) ++past;
      runs.push_back(
          {shade(q),
           {left, y + static_cast<double>(q) * grid.cell, grid.cell, static_cast<double>(past - q) * grid.cell,
            blend(gone, seen, static_cast<double>(shade(q)) / shades)}});
    }
    runs.push_back({shades + 1, {left, y + static_cast<double>(j) * grid.cell, grid.cell, grid.cell, self}});
  }
  std::ranges::stable_sort(runs, {}, [](const auto& run) { return run.first; });
  for (auto& [shade, rect] : runs) drawing.shapes.push_back(rect);
}

/// The rows that each query before `now` sees, under the line of a cache that forgets nothing.
void draw_curve(Drawing& drawing, std::span<const double> rows, std::size_t now, double x, double y, double width) {
  const auto n = static_cast<double>(rows.size());
  const auto at = [&](double position, double value) {
    return Point{x + position / n * width, y + curve * (1 - value / n)};
  };
  drawing.shapes.push_back(Line{{at(0, 0), at(n, n)}, gone, 1});
  drawing.shapes.push_back(Line{{at(0, 0), at(n, 0)}, gone, 1});
  Line line{{at(0, 0)}, seen, 1.4};
  const std::size_t step = std::max<std::size_t>(1, rows.size() / 320);
  for (std::size_t i = 0; i < now; ++i)
    if (i % step == 0 || i + 1 == now) line.points.push_back(at(static_cast<double>(i + 1), rows[i]));
  drawing.shapes.push_back(std::move(line));
}

}  // namespace

double draw_layers(Drawing& drawing, const Trace& trace, std::size_t first, std::size_t now, double map, double top) {
  const std::size_t n = trace.tokens.size();
  const Grid grid(n, map);
  const double side = grid.side();
  const double panel_width = std::max(side, 140.0) + panel_gap, panel_height = title + side + 8 + curve + panel_end;
  const auto per_row = static_cast<std::size_t>((page_width - 2 * margin + panel_gap) / panel_width);
  for (std::size_t l = 0; l < trace.drop_at.size(); ++l) {
    const double x = margin + static_cast<double>(l % per_row) * panel_width;
    const double y = top + static_cast<double>(l / per_row) * panel_height + title;
    const std::vector<double> rows = kept_rows(trace.drop_at[l]);
    double kept = 0;  // pairs
    for (std::size_t i = 0; i < now; ++i) kept += rows[i];
    const auto m = static_cast<double>(now);
    drawing.shapes.push_back(
        label("layer " + std::to_string(first + l) + ": " + format("%.0f %% kept", 100 * kept / (m * (m + 1) / 2)), x,
              y - 7, faint));
    draw_map(drawing, trace.drop_at[l], grid, n, now, x, y);
    draw_curve(drawing, rows, now, x, y + side + 8, side);
    drawing.shapes.push_back(
        label(format("%.0f", rows[now - 1]) + " of " + std::to_string(now) + " rows", x, y + side + curve + 22, faint));
  }
  return top + static_cast<double>((trace.drop_at.size() + per_row - 1) / per_row) * panel_height;
}

}  // namespace pith::trace
