// SPDX-License-Identifier: MIT
#include <algorithm>
#include <string>
#include <string_view>

#include "pith/error.hpp"
#include "pith/trace.hpp"
#include "trace/drops.hpp"
#include "trace/maps.hpp"
#include "trace/style.hpp"
#include "trace/text.hpp"

namespace pith {

namespace {

using namespace trace;

// Pixels: where the text begins, from one of its lines to the next, and a map's side, about; of all layers, and of one.
constexpr double text_top = margin + 36;
constexpr double page_line = 32, page_map = 150, layer_line = 40, layer_map = 300;

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
  double y = std::max(text.end, text_top) + 14;
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
  const Text text = set_text(trace.tokens, tokenizer, text_top, page_line);
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
  if (now > 0) drops = when == When::end ? greatest_drops(trace, text) : drops_of(trace, text, now - 1);
  draw_text(drawing, text, held(trace, when == When::end ? now : now - 1), now, drops);
  draw_below(drawing, trace, 0, now, page_map, text);
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
  const Text text = set_text(one.tokens, tokenizer, text_top, layer_line);
  Legend legend(drawing, margin + 8);
  legend.words("layer " + std::to_string(layer) + " at the end:").square(blend(white, seen, 0.85), "held");
  if (one.drop_at[0].size() > 1) legend.square(blend(white, seen, 0.4), "held by some of its heads");
  legend.stroke(strike, "dropped")
      .arrow(arrow_colours[0], tokens_decided(one) ? "from a framed token to what it dropped, in its colour"
                                                   : "from a framed token to what went just before it, in its colour");
  draw_text(drawing, text, held(one, now), now, every_drop(one, text));
  draw_below(drawing, one, layer, now, layer_map, text);
  return drawing;
}

Drawing draw_moment(const Trace& trace, const Tokenizer& tokenizer, std::size_t now) {
  if (now < 1 || now > trace.tokens.size())
    fail(ErrorCode::argument, "moment of a trace", "from 1 to " + std::to_string(trace.tokens.size()),
         std::to_string(now));
  return page(trace, tokenizer, now, When::moment);
}

}  // namespace pith
