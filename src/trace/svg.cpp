// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "pith/trace.hpp"
#include "tokenizer/unicode.hpp"

namespace pith {

namespace {

constexpr double column = 8.4, line = 24, margin = 20;  // pixels
constexpr std::size_t columns = 100;                    // per line of text
constexpr double map_size = 150, map_gap = 14;

template <class... T>
std::string format(const char* pattern, T... values) {
  std::array<char, 512> buffer{};
  const int n = std::snprintf(buffer.data(), buffer.size(), pattern, values...);
  return {buffer.data(), static_cast<std::size_t>(n)};
}

/// Text between tags. Control characters, which XML does not allow, become their pictures.
std::string escaped(std::string_view text) {
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    const text::Character c = text::first_character(rest);
    rest.remove_prefix(c.bytes);
    if (c.code == '&')
      out += "&amp;";
    else if (c.code == '<')
      out += "&lt;";
    else if (c.code == ' ')
      text::append(out, 0xa0);
    else
      text::append(out, c.code < 0x20 ? 0x2400 + c.code : c.code);
  }
  return out;
}

std::size_t width(std::string_view text) {
  std::size_t n = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const text::Character c = text::first_character(rest);
    rest.remove_prefix(c.bytes);
    if (!text::is_mark(c.code)) n += c.code >= 0x1100 && c.code != 0xfffd ? 2 : 1;
  }
  return n;
}

/// Where a token stands in the text.
struct Place {
  double x = 0, y = 0, width = 0;
};

std::vector<Place> set_text(const std::vector<std::string>& pieces) {
  std::vector<Place> places;
  std::size_t at = 0, row = 0;
  for (const std::string& piece : pieces) {
    const std::size_t n = std::max<std::size_t>(1, width(piece));
    if (at > 0 && at + n > columns) at = 0, ++row;
    places.push_back({margin + static_cast<double>(at) * column, margin + 30 + static_cast<double>(row) * line,
                      static_cast<double>(n) * column});
    at += n;
    if (piece.find('\n') != std::string::npos) at = 0, ++row;
  }
  return places;
}

/// The token that dropped most others, and those, over all layers and lanes.
std::pair<std::size_t, std::vector<std::size_t>> greatest_dropper(const Trace& trace) {
  const std::size_t n = trace.tokens.size();
  std::vector<std::vector<std::size_t>> dropped(n);
  for (const auto& layer : trace.drop_at)
    for (const auto& lane : layer)
      for (std::size_t j = 0; j < n; ++j)
        if (lane[j] >= 0) dropped[static_cast<std::size_t>(lane[j])].push_back(j);
  std::size_t best = 0;
  for (std::size_t i = 0; i < n; ++i) {
    auto& all = dropped[i];
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    if (all.size() > dropped[best].size()) best = i;
  }
  return {best, n > 0 ? dropped[best] : std::vector<std::size_t>{}};
}

/// Columns are keys, rows queries: dark where a query sees a key, light where the key has been dropped.
std::string map_of_layer(const Trace& trace, std::size_t layer, double x, double y) {
  const auto& lanes = trace.drop_at[layer];
  const double n = static_cast<double>(trace.tokens.size()), cell = map_size / n;
  double kept = 0;
  for (const auto& lane : lanes) kept += kept_fraction(lane) / static_cast<double>(lanes.size());
  std::string out =
      format("<text x='%.1f' y='%.1f' class='label'>layer %zu: %.0f %% kept</text>\n", x, y - 6, layer, 100 * kept);
  out += format("<path d='M%.1f %.1fV%.1fH%.1fZ' class='gone'/>\n", x, y, y + map_size, x + map_size);
  out += "<path class='seen' d='";
  const double height = cell / static_cast<double>(lanes.size());
  for (std::size_t l = 0; l < lanes.size(); ++l)
    for (std::size_t j = 0; j < trace.tokens.size(); ++j) {
      const double until = lanes[l][j] < 0 ? n : static_cast<double>(lanes[l][j]);
      const double left = x + static_cast<double>(j) * cell + static_cast<double>(l) * height;
      out += format("M%.2f %.2fh%.2fv%.2fh-%.2fz", left, y + static_cast<double>(j) * cell, height,
                    (until - static_cast<double>(j)) * cell, height);
    }
  return out + "'/>\n";
}

}  // namespace

std::string to_svg(const Trace& trace, const Tokenizer& tokenizer) {
  const std::vector<std::string> text = pieces(trace.tokens, tokenizer);
  const std::vector<Place> places = set_text(text);
  const std::vector<float> share = held(trace, trace.tokens.size());
  const double text_end = places.empty() ? margin + 30 : places.back().y + line;
  const double page_width = 2 * margin + static_cast<double>(columns) * column;
  const auto per_row = static_cast<std::size_t>((page_width - 2 * margin + map_gap) / (map_size + map_gap));
  const std::size_t map_rows = (trace.drop_at.size() + per_row - 1) / per_row;
  const double height = text_end + 26 + static_cast<double>(map_rows) * (map_size + 40) + margin;

  std::string out = format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' width='%.0f' "
      "height='%.0f' font-family='ui-monospace, Menlo, Consolas, monospace' font-size='14'>\n",
      page_width, height, page_width, height);
  out +=
      "<style>.label{font-size:11px;fill:#57606a}.gone{fill:#e6e9ed}.seen{fill:#1f5fa8}.line{stroke:#b3261e;"
      "stroke-width:1.2}.arrow{stroke:#b3261e;fill:none;opacity:.55}</style>\n";
  out += format("<rect width='%.0f' height='%.0f' fill='#ffffff'/>\n", page_width, height);
  out += format(
      "<text x='%.0f' y='%.0f' class='label'>dark: held by every layer at the end; struck through: dropped "
      "by all; arrows: from the token that dropped most to what it dropped</text>\n",
      margin, margin);
  for (std::size_t j = 0; j < places.size(); ++j) {
    const Place& p = places[j];
    const auto keep = static_cast<double>(share[j]);
    // From a blank page to a strong blue; white letters where the ground is dark.
    out += format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='#1f5fa8' fill-opacity='%.2f'/>", p.x,
                  p.y - 15, p.width, line - 4, 0.85 * keep);
    out += format("<text x='%.1f' y='%.1f' textLength='%.1f' lengthAdjust='spacingAndGlyphs' fill='%s'>", p.x, p.y,
                  p.width, keep > 0.55 ? "#ffffff" : "#1c2127");
    out += escaped(text[j]) + "</text>";
    if (keep <= 0) out += format("<path d='M%.1f %.1fh%.1f' class='line'/>", p.x, p.y - 5, p.width);
    out += '\n';
  }
  const auto [dropper, dropped] = greatest_dropper(trace);
  for (const std::size_t j : dropped) {
    const Place& from = places[dropper];
    const Place& to = places[j];
    const double x0 = from.x + from.width / 2, x1 = to.x + to.width / 2, bow = std::min(from.y, to.y) - 28;
    out += format("<path d='M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f' class='arrow'/>\n", x0, from.y - 15, x0, bow, x1,
                  bow, x1, to.y - 15);
  }
  for (std::size_t l = 0; l < trace.drop_at.size(); ++l)
    out += map_of_layer(trace, l, margin + static_cast<double>(l % per_row) * (map_size + map_gap),
                        text_end + 26 + static_cast<double>(l / per_row) * (map_size + 40));
  return out + "</svg>\n";
}

}  // namespace pith
