// SPDX-License-Identifier: MIT
#include "trace/text.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "pith/trace.hpp"
#include "text/unicode.hpp"
#include "trace/style.hpp"

namespace pith::trace {

namespace {

constexpr double letter_size = 14;  // pixels

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

/// A group, made ready to be placed.
struct Piece {
  std::string shown;
  std::size_t columns = 1;
};

bool begins_word(const Piece& piece) { return piece.shown.empty() || piece.shown[0] == ' '; }

}  // namespace

Text set_text(std::span<const Token> tokens, const Tokenizer& tokenizer, double top, double line_height) {
  std::vector<Group> groups = groups_of(tokens, tokenizer);
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

}  // namespace pith::trace
