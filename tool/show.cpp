// SPDX-License-Identifier: MIT
#include "show.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "pith/trace.hpp"

namespace pith::tool {

namespace {

enum class Marks { colour, plain };

/// How a stretch of text is set off: what stands before and after it.
struct Mark {
  std::string before, after;
  bool operator==(const Mark&) const = default;
};

Mark coloured(double held) {
  if (held >= 1) return {};
  // Greys 247 to 241 of the 256-colour palette can be read on black and on white.
  if (held > 0) return {"\x1b[38;5;" + std::to_string(241 + std::lround(6 * held)) + "m", "\x1b[0m"};
  return {"\x1b[9;38;5;241m", "\x1b[0m"};
}

Mark plain(double held) {
  if (held >= 0.5) return {};
  return held > 0 ? Mark{"‹", "›"} : Mark{"~", "~"};
}

struct Stretch {
  Mark mark;
  std::string text;
};

/// Complete characters with one mark each; a character made of several tokens is held as long as one of them is.
std::vector<Stretch> stretches(const Tokenizer& tokenizer, std::span<const Token> tokens, std::span<const double> held,
                               Mark (*mark_of)(double)) {
  std::vector<Stretch> all;
  const auto add = [&](double fraction, std::string_view text) {
    if (text.empty()) return;
    const Mark mark = mark_of(fraction);
    if (all.empty() || all.back().mark != mark) all.push_back({mark, {}});
    all.back().text += text;
  };
  TextStream stream(tokenizer);
  double fraction = 0;  // of the tokens since the last complete character
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    fraction = std::max(fraction, i < held.size() ? held[i] : 1.0);
    const std::string text = stream.push(tokens[i]);
    add(fraction, text);
    if (!text.empty()) fraction = 0;
  }
  add(fraction, stream.flush());
  return all;
}

/// Marks stand at words: blanks at either end stay outside, and no mark spans lines.
void write(std::ostream& out, const Stretch& stretch) {
  constexpr std::string_view blanks = " \t\r\n";
  std::string_view rest = stretch.text;
  while (!rest.empty()) {
    const std::size_t line = std::min(rest.find('\n'), rest.size());
    const std::string_view text = rest.substr(0, line);
    const std::size_t first = std::min(text.find_first_not_of(blanks), text.size());
    const std::size_t past = text.find_last_not_of(blanks) + 1;  // 0 where all is blank
    out << text.substr(0, first);
    if (past > first) out << stretch.mark.before << text.substr(first, past - first) << stretch.mark.after;
    out << text.substr(std::max(first, past));
    if (line < rest.size()) out << '\n';
    rest.remove_prefix(std::min(line + 1, rest.size()));
  }
}

void show_text(std::ostream& out, const Tokenizer& tokenizer, std::span<const Token> tokens,
               std::span<const double> held, Marks marks) {
  const auto mark_of = marks == Marks::colour ? coloured : plain;
  for (const Stretch& stretch : stretches(tokenizer, tokens, held, mark_of)) write(out, stretch);
  out << "\n\n";
  write(out, {mark_of(1), "held"});
  out << (marks == Marks::colour ? " by every layer, " : " by half of the layers or more, ");
  write(out, {mark_of(0.4), "held by some"});
  out << (marks == Marks::colour ? " (the fainter, the fewer), " : ", ");
  write(out, {mark_of(0), "forgotten"});
  out << " by all\n";
}

/// Means of at most `width` equal parts of the values, as blocks whose height is their fraction of `top`.
std::string sparkline(std::span<const double> values, double top, std::size_t width) {
  constexpr std::string_view blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const std::size_t parts = std::min(width, values.size());
  std::string line;
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t first = i * values.size() / parts, past = (i + 1) * values.size() / parts;
    const std::span<const double> part = values.subspan(first, past - first);
    const double mean = std::accumulate(part.begin(), part.end(), 0.0) / static_cast<double>(part.size());
    line += blocks[static_cast<std::size_t>(std::clamp(std::ceil(mean / top * 8), 1.0, 8.0)) - 1];
  }
  return line;
}

void show_rows(std::ostream& out, const DropAt& drop_at) {
  constexpr std::size_t width = 40;
  double top = 1;
  for (const auto& layer : drop_at)
    for (const double rows : kept_rows(layer)) top = std::max(top, rows);
  Kept kept;
  kept.add(drop_at);
  out << "\nrows that each query sees, from the first to the last (█ = " << std::lround(top) << ")\n";
  for (std::size_t l = 0; l < drop_at.size(); ++l) {
    const std::vector<double> rows = kept_rows(drop_at[l]);
    if (rows.empty()) continue;
    out << "layer " << l << (l < 10 ? "   " : "  ") << sparkline(rows, top, width) << "  " << std::lround(rows.back())
        << " of " << rows.size() << " at the end, " << percent_text(kept.per_layer()[l]) << " kept\n";
  }
}

}  // namespace

void show(const Tool& tool, const Tokenizer& tokenizer, std::span<const Token> tokens, const DropAt& drop_at,
          std::string_view closing) {
  const Stream stream = tool.json ? Stream::err : Stream::out;
  std::ostream& out = tool.json ? std::cerr : std::cout;
  out << '\n';
  show_text(out, tokenizer, tokens, held_by(drop_at), has_colour(stream) ? Marks::colour : Marks::plain);
  show_rows(out, drop_at);
  out << closing << '\n';
}

}  // namespace pith::tool
