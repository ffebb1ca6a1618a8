// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "pith/drawing.hpp"
#include "text/unicode.hpp"

namespace pith {

namespace {

constexpr double column_em = 0.6;  // a column of most monospaced faces, in font sizes

/// With one decimal, and none where it is zero.
std::string number(double x) {
  const long tenths = std::lround(10 * x);
  std::string text = tenths < 0 ? "-" : "";
  text += std::to_string(std::abs(tenths) / 10);
  if (tenths % 10 != 0) text += "." + std::to_string(std::abs(tenths) % 10);
  return text;
}

std::string pair(Point p) { return number(p.x) + " " + number(p.y); }

std::string hex(Colour c) {
  char text[8];
  std::snprintf(text, sizeof(text), "#%02x%02x%02x", static_cast<unsigned>(c.red), static_cast<unsigned>(c.green),
                static_cast<unsigned>(c.blue));
  return text;
}

/// Text between tags; what XML does not allow becomes U+FFFD.
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
      text::append(out, 0xa0);  // not to be collapsed
    else
      text::append(out, c.code < 0x20 || (c.code & 0xfffe) == 0xfffe ? 0xfffd : c.code);
  }
  return out;
}

class Writer {
 public:
  explicit Writer(const Drawing& drawing) {
    const std::string size = number(drawing.width) + " " + number(drawing.height);
    out_ = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " + size + "' width='" + number(drawing.width) +
           "' height='" + number(drawing.height) +
           "' font-family='\"DejaVu Sans Mono\", ui-monospace, Menlo, Consolas, monospace'>\n"
           "<rect width='100%' height='100%' fill='#ffffff'/>\n";
    for (const Shape& shape : drawing.shapes) std::visit(*this, shape);
    end_rects();
    out_ += "</svg>\n";
  }

  std::string take() { return std::move(out_); }

  /// Rectangles of one colour in a row are one element.
  void operator()(const Rect& r) {
    if (rects_.empty() || !(fill_ == r.fill)) {
      end_rects();
      fill_ = r.fill;
    }
    rects_ += "M" + pair({r.x, r.y}) + "h" + number(r.width) + "v" + number(r.height) + "h" + number(-r.width) + "z";
  }

  void operator()(const Line& line) {
    end_rects();
    out_ += "<path d='";
    for (std::size_t i = 0; i < line.points.size(); ++i) out_ += (i == 0 ? "M" : "L") + pair(line.points[i]);
    out_ += "' fill='none' stroke='" + hex(line.stroke) + "' stroke-width='" + number(line.width) + "'/>\n";
  }

  void operator()(const Arrow& a) {
    end_rects();
    const auto [left, tip, right] = a.head();
    out_ += "<path d='M" + pair(a.from) + "C" + pair(a.control_1) + " " + pair(a.control_2) + " " + pair(a.to) +
            "' fill='none' stroke='" + hex(a.stroke) + "' stroke-width='" + number(a.width) + "'/><path d='M" +
            pair(left) + "L" + pair(tip) + "L" + pair(right) + "Z' fill='" + hex(a.stroke) + "'/>\n";
  }

  void operator()(const Label& label) {
    end_rects();
    out_ += "<text x='" + number(label.x) + "' y='" + number(label.y) + "' font-size='" + number(label.size) +
            "' fill='" + hex(label.fill) + "'";
    if (label.width > 0) out_ += " textLength='" + number(label.width) + "' lengthAdjust='spacingAndGlyphs'";
    out_ += ">" + escaped(label.text) + "</text>\n";
  }

 private:
  void end_rects() {
    if (!rects_.empty()) out_ += "<path shape-rendering='crispEdges' fill='" + hex(fill_) + "' d='" + rects_ + "'/>\n";
    rects_.clear();
  }

  std::string out_, rects_;  // rects_: not yet written, all of colour fill_
  Colour fill_;
};

}  // namespace

Colour blend(Colour from, Colour to, double at) {
  const auto mix = [at](std::uint8_t a, std::uint8_t b) {
    return static_cast<std::uint8_t>(std::lround((1 - at) * a + at * b));
  };
  return {mix(from.red, to.red), mix(from.green, to.green), mix(from.blue, to.blue)};
}

std::array<Point, 3> Arrow::head() const {
  constexpr double length = 5, half_width = 2.5;
  const double dx = to.x - control_2.x, dy = to.y - control_2.y, norm = std::max(std::hypot(dx, dy), 1e-9);
  const Point along{dx / norm, dy / norm}, base{to.x - length * along.x, to.y - length * along.y};
  return {Point{base.x - half_width * along.y, base.y + half_width * along.x}, to,
          Point{base.x + half_width * along.y, base.y - half_width * along.x}};
}

std::size_t columns(std::string_view text) {
  std::size_t n = 0;
  while (!text.empty()) {
    const text::Character c = text::first_character(text);
    text.remove_prefix(c.bytes);
    n += text::columns(c.code);
  }
  return n;
}

double text_width(std::string_view text, double size) { return static_cast<double>(columns(text)) * column_em * size; }

Label label(std::string_view text, double x, double y, Colour fill, double size) {
  // Only letters that stand side by side can be spread: Latin, Greek, Cyrillic and signs, but no joined script.
  bool even = true;
  for (std::string_view rest = text; !rest.empty();) {
    const text::Character c = text::first_character(rest);
    rest.remove_prefix(c.bytes);
    even = even && text::columns(c.code) == 1 && (c.code < 0x530 || (c.code >= 0x2010 && c.code < 0x2500));
  }
  return {std::string(text), x, y, fill, size, even ? text_width(text, size) : 0};
}

std::string to_svg(const Drawing& drawing) { return Writer(drawing).take(); }

}  // namespace pith
