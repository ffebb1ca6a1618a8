// SPDX-License-Identifier: MIT
// A picture as rectangles, lines and words at places: what a picture shows is said once, whatever file it goes to.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pith/api.hpp"

namespace pith {

struct Colour {
  std::uint8_t red = 0, green = 0, blue = 0;
  bool operator==(const Colour&) const = default;
};

/// `at` = 0: from, 1: to.
PITH_API Colour blend(Colour from, Colour to, double at);

struct Point {
  double x = 0, y = 0;  // right and down from the upper left corner, in pixels
};

struct Rect {
  double x = 0, y = 0, width = 0, height = 0;
  Colour fill;
};

/// Straight from point to point.
struct Line {
  std::vector<Point> points;
  Colour stroke;
  double width = 1;
};

/// A cubic Bézier curve, with a head at its end.
struct PITH_API Arrow {
  Point from, control_1, control_2, to;
  Colour stroke;
  double width = 1;

  std::array<Point, 3> head() const;
};

/// A line of text in a monospaced face. Where its width is given, it is fitted to it: fonts differ.
struct Label {
  std::string text;     // UTF-8 without control characters
  double x = 0, y = 0;  // where its baseline begins
  Colour fill;
  double size = 14;
  double width = 0;  // 0: as the font has it
};

using Shape = std::variant<Rect, Line, Arrow, Label>;

/// Shapes on white, in the order in which they are drawn.
struct Drawing {
  double width = 0, height = 0;  // pixels
  std::vector<Shape> shapes;
};

/// How many columns a terminal or a monospaced face gives a text.
PITH_API std::size_t columns(std::string_view text);

/// Width of a text in a monospaced face.
PITH_API double text_width(std::string_view text, double size);

/// A label that is as wide as text_width() says, where all its characters are of one column.
PITH_API Label label(std::string_view text, double x, double y, Colour fill, double size = 11);

PITH_API std::string to_svg(const Drawing& drawing);

}  // namespace pith
