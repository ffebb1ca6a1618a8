// SPDX-License-Identifier: MIT
// The tokens of a trace as running text: where each stands, and how it is drawn.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "pith/drawing.hpp"
#include "pith/tokenizer.hpp"

namespace pith::trace {

inline constexpr double box = 20;  // pixels: height of what stands behind a token

/// Tokens that make whole characters together: mostly one.
struct Group {
  std::size_t first = 0, count = 0;  // tokens
  std::string text;
};

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

/// Who dropped what, in parts: arrows run behind the text, from frames to what stands on a ground.
struct Drops {
  std::vector<Arrow> arrows;
  std::vector<Rect> grounds;
  std::vector<Line> frames;
};

/// The tokens, from left to right in the order in which they were read, whatever their script. Lines are broken between
/// words, unless a word is longer than a line.
Text set_text(std::span<const Token> tokens, const Tokenizer& tokenizer, double top, double line_height);

/// The tokens before `now` on grounds by the share of the lanes that hold them, struck out where none does.
void draw_text(Drawing& drawing, const Text& text, std::span<const float> share, std::size_t now, const Drops& drops);

}  // namespace pith::trace
