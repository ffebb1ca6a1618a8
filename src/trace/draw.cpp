// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pith/error.hpp"
#include "pith/trace.hpp"
#include "tokenizer/unicode.hpp"

namespace pith {

namespace {

constexpr double letter_size = 14, column = 8.4, box = 20, margin = 20;  // pixels
constexpr std::size_t line_columns = 108;
constexpr double page_width = 2 * margin + line_columns * column;
constexpr std::size_t most_cells = 300;  // per side of a map
constexpr double panel_gap = 18, title = 20, curve = 30, panel_end = 26;
constexpr std::size_t shades = 8;  // of a cell of the map that stands for several pairs

constexpr Colour white{255, 255, 255}, ink{28, 33, 39}, faint{87, 96, 106}, gone{230, 233, 237}, seen{31, 95, 168},
    self{217, 119, 6}, strike{179, 38, 30};
constexpr Colour arrow_colours[] = {{179, 38, 30}, {20, 120, 70}, {123, 63, 160},
                                    {170, 100, 0}, {0, 110, 130}, {160, 30, 100}};
constexpr std::size_t most_arrows = 60;  // of one token, and of several together

/// Pixels from one line of the text to the next, above a line for arrows, and of a map's side, about.
struct Spacing {
  double line, bow, map;
};
constexpr Spacing all_layers{32, 12, 150}, one_layer{40, 18, 300};

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, value);
  return text;
}

// --- The text --------------------------------------------------------------------------------------------------------

/// Tokens that make whole characters together: mostly one.
struct Group {
  std::size_t first = 0, count = 0;  // tokens
  std::string text;
};

std::vector<Group> groups_of(std::span<const Token> tokens, const Tokenizer& tokenizer) {
  std::vector<Group> groups;
  std::vector<std::string> texts = pieces(tokens, tokenizer);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].empty() && !groups.empty())
      ++groups.back().count;
    else
      groups.push_back({i, 1, std::move(texts[i])});
  }
  return groups;
}

/// Control characters become their pictures, and blanks are blanks.
std::string visible(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const text::Character c = text::first_character(text);
    text.remove_prefix(c.bytes);
    if (c.code == '\n')
      text::append(out, U'\u21b5');  // fonts have it, unlike the picture of a line feed
    else if (c.code < 0x20)
      text::append(out, 0x2400 + c.code);
    else if (c.code >= 0x7f && c.code < 0xa0)
      text::append(out, 0xfffd);
    else
      text::append(out, text::is_whitespace(c.code) ? U' ' : c.code);
  }
  return out;
}

struct Place {
  double x = 0, y = 0, width = 0;  // y: of the box's upper edge

  double middle() const { return x + width / 2; }
};

struct Text {
  std::vector<Place> places;  // of the tokens
  std::vector<Label> words;   // in the order of `groups`
  std::vector<Group> groups;
  double end = 0;
};

/// A group, made ready to be placed.
struct Piece {
  std::string shown;
  std::size_t columns = 1;
};

bool begins_word(const Piece& piece) { return piece.shown.empty() || piece.shown[0] == ' '; }

/// Tokens stand from left to right in the order in which they were read, whatever their script. Lines are broken
/// between words, unless a word is longer than a line.
Text set_text(std::vector<Group> groups, double top, double line_height) {
  std::vector<Piece> pieces;
  for (const Group& group : groups) {
    std::string shown = visible(group.text);
    const std::size_t n = std::min(line_columns, std::max(group.count, columns(shown)));
    pieces.push_back({std::move(shown), n});
  }
  Text text;
  std::size_t at = 0, row = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto& [shown, n] = pieces[g];
    std::size_t word = n;  // columns of this piece and the rest of its word
    if (at > 0 && begins_word(pieces[g]))
      for (std::size_t next = g + 1; next < pieces.size() && !begins_word(pieces[next]); ++next)
        word += pieces[next].columns;
    if (at + n > line_columns || (at + word > line_columns && word <= line_columns)) at = 0, ++row;
    const double x = margin + static_cast<double>(at) * column, y = top + static_cast<double>(row) * line_height;
    const double width = static_cast<double>(n) * column;
    for (std::size_t i = 0; i < groups[g].count; ++i) {
      const double share = width / static_cast<double>(groups[g].count);
      text.places.push_back({x + static_cast<double>(i) * share, y, share});
    }
    const std::size_t blanks = std::min(shown.find_first_not_of(' '), shown.size());
    const std::string_view rest = std::string_view(shown).substr(blanks);
    const std::string_view letters = rest.substr(0, rest.find_last_not_of(' ') + 1);
    text.words.push_back(
        label(letters, x + static_cast<double>(std::min(blanks, n - 1)) * column, y + 15, ink, letter_size));
    // A token longer than a line is squeezed into one.
    text.words.back().width = std::min(text.words.back().width, width);
    at += n;
    if (groups[g].text.find('\n') != std::string::npos) at = 0, ++row;
    text.end = y + line_height;
  }
  text.groups = std::move(groups);
  return text;
}

/// Who dropped what, in parts: arrows run behind the text, from frames to what stands on a ground.
struct Drops {
  std::vector<Arrow> arrows;
  std::vector<Rect> grounds;
  std::vector<Line> frames;
};

void draw_text(Drawing& drawing, const Text& text, std::span<const float> share, std::size_t now, const Drops& drops) {
  std::vector<Shape>& shapes = drawing.shapes;
  shapes.insert(shapes.end(), drops.arrows.begin(), drops.arrows.end());
  shapes.insert(shapes.end(), drops.grounds.begin(), drops.grounds.end());
  for (std::size_t j = 0; j < now; ++j) {
    const Place& p = text.places[j];
    const Colour ground = blend(white, seen, 0.85 * static_cast<double>(share[j]));
    if (!(ground == white)) shapes.push_back(Rect{p.x, p.y, p.width, box, ground});
  }
  shapes.insert(shapes.end(), drops.frames.begin(), drops.frames.end());
  for (std::size_t g = 0; g < text.groups.size(); ++g) {
    const Group& group = text.groups[g];
    if (group.first + group.count > now) break;
    Label word = text.words[g];
    float held_by = 0;
    for (std::size_t i = 0; i < group.count; ++i) held_by = std::max(held_by, share[group.first + i]);
    if (held_by > 0.55f) word.fill = white;
    if (!word.text.empty()) shapes.push_back(std::move(word));
  }
  for (std::size_t j = 0; j < now; ++j) {
    const Place& p = text.places[j];
    const double y = p.y + box / 2;
    if (share[j] <= 0) shapes.push_back(Line{{{p.x, y}, {p.x + p.width, y}}, strike, 1.2});
  }
}

// --- Who dropped what ------------------------------------------------------------------------------------------------

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

/// Whether all that was dropped was so by the gate, that is by a token. A policy makes room, and the token that comes
/// then is only the first not to see what went.
bool tokens_decided(const Trace& trace) {
  for (std::size_t l = 0; l < trace.drop_at.size(); ++l)
    for (std::size_t h = 0; h < trace.drop_at[l].size(); ++h)
      for (std::size_t j = 0; j < trace.tokens.size(); ++j)
        if (trace.drop_at[l][h][j] >= 0 && static_cast<std::size_t>(trace.drop_at[l][h][j]) < trace.tokens.size() &&
            (trace.gate_score.empty() || std::isnan(trace.gate_score[l][h][j])))
          return false;
  return true;
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
    if (i++ % step == 0) drops.arrows.push_back(arrow(place, text.places[j], colour, share, all_layers.bow));
  if (!dropped.empty()) drops.frames.push_back(frame(place, colour));
}

/// Of the tokens that dropped most, as many as can be told apart.
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

/// Of all tokens, in turns of colour: an arrow to each run of neighbours in a line.
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
      drops.arrows.push_back(arrow(text.places[from], run, colour, most, one_layer.bow));
    }
    drops.frames.push_back(frame(text.places[from], colour));
  }
  return drops;
}

// --- The maps --------------------------------------------------------------------------------------------------------

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

/// Height of the panels' rows is that of all layers, which are counted from `first`.
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

// --- The page --------------------------------------------------------------------------------------------------------

/// Small squares or strokes with what they mean, from left to right.
class Legend {
 public:
  Legend(Drawing& drawing, double y) : drawing_(drawing), y_(y) {}

  Legend& square(Colour fill, std::string_view meaning) {
    drawing_.shapes.push_back(Rect{x_, y_ - 10, 12, 12, fill});
    return words(meaning, 18);
  }
  Legend& stroke(Colour colour, std::string_view meaning) {
    drawing_.shapes.push_back(Line{{{x_, y_ - 4}, {x_ + 12, y_ - 4}}, colour, 1.4});
    return words(meaning, 18);
  }
  Legend& arrow(Colour colour, std::string_view meaning) {
    drawing_.shapes.push_back(Arrow{{x_, y_ - 4}, {x_ + 4, y_ - 4}, {x_ + 8, y_ - 4}, {x_ + 14, y_ - 4}, colour, 1.4});
    return words(meaning, 20);
  }
  Legend& words(std::string_view meaning, double indent = 0) {
    drawing_.shapes.push_back(label(meaning, x_ + indent, y_, faint));
    x_ += indent + text_width(meaning, 11) + 16;
    return *this;
  }

 private:
  Drawing& drawing_;
  double x_ = margin, y_;
};

enum class When { end, moment };

/// The page, but for its text and what the text's colours mean.
void draw_below(Drawing& drawing, const Trace& trace, std::size_t first_layer, std::size_t now, double map,
                const Text& text) {
  double y = std::max(text.end, margin + 36) + 14;
  Legend(drawing, y)
      .words("columns: tokens, rows: queries")
      .square(seen, "seen")
      .square(gone, "dropped")
      .square(self, "the query itself")
      .stroke(seen, "rows that each query sees");
  if (now > 0) y = draw_layers(drawing, trace, first_layer, now, map, y + 8);
  drawing.height = y + margin / 2;
}

Drawing page(const Trace& trace, const Tokenizer& tokenizer, std::size_t now, When when) {
  Drawing drawing{page_width, 0, {}};
  const Text text = set_text(groups_of(trace.tokens, tokenizer), margin + 36, all_layers.line);
  const bool decided = tokens_decided(trace);
  const std::string_view meaning =
      when == When::end ? decided ? "from the tokens that dropped most to what they dropped (up to 60)"
                                  : "from the tokens before which most went to what went just before them (up to 60)"
      : decided         ? "from the last token to what it drops (up to 60)"
                        : "from the last token to what went just before it (up to 60)";
  Legend(drawing, margin + 8)
      .words(when == When::end ? "held at the end by" : "held now by")
      .square(blend(white, seen, 0.85), "every layer")
      .square(blend(white, seen, 0.4), "some")
      .stroke(strike, "none")
      .arrow(when == When::end ? arrow_colours[0] : self, meaning);
  Drops drops;
  if (when == When::end)
    drops = greatest_drops(trace, text);
  else if (now > 0)
    add_drops(drops, text, now - 1, droppers(trace)[now - 1], self);
  draw_text(drawing, text, held(trace, when == When::end ? now : now - 1), now, drops);
  draw_below(drawing, trace, 0, now, all_layers.map, text);
  return drawing;
}

}  // namespace

Drawing draw(const Trace& trace, const Tokenizer& tokenizer) {
  return page(trace, tokenizer, trace.tokens.size(), When::end);
}

Drawing draw_layer(const Trace& trace, const Tokenizer& tokenizer, std::size_t layer) {
  if (layer >= trace.drop_at.size())
    fail(ErrorCode::argument, "layer of a trace", "below " + std::to_string(trace.drop_at.size()),
         std::to_string(layer));
  Trace one;
  one.tokens = trace.tokens;
  one.drop_at = {trace.drop_at[layer]};
  if (!trace.gate_score.empty()) one.gate_score = {trace.gate_score[layer]};
  const std::size_t now = one.tokens.size();
  Drawing drawing{page_width, 0, {}};
  const Text text = set_text(groups_of(one.tokens, tokenizer), margin + 36, one_layer.line);
  Legend legend(drawing, margin + 8);
  legend.words("layer " + std::to_string(layer) + " at the end:").square(blend(white, seen, 0.85), "held");
  if (one.drop_at[0].size() > 1) legend.square(blend(white, seen, 0.4), "held by some of its heads");
  legend.stroke(strike, "dropped")
      .arrow(arrow_colours[0], tokens_decided(one) ? "from a framed token to what it dropped, in its colour"
                                                   : "from a framed token to what went just before it, in its colour");
  draw_text(drawing, text, held(one, now), now, every_drop(one, text));
  draw_below(drawing, one, layer, now, one_layer.map, text);
  return drawing;
}

Drawing draw_moment(const Trace& trace, const Tokenizer& tokenizer, std::size_t now) {
  if (now < 1 || now > trace.tokens.size())
    fail(ErrorCode::argument, "moment of a trace", "from 1 to " + std::to_string(trace.tokens.size()),
         std::to_string(now));
  return page(trace, tokenizer, now, When::moment);
}

}  // namespace pith
