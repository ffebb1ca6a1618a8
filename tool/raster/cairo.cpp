// SPDX-License-Identifier: MIT
#include <gif_lib.h>
#include <pango/pangocairo.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../raster.hpp"
#include "pith/error.hpp"

namespace pith::tool {

namespace {

constexpr double most_pixels_per_side = 32767;  // cairo's coordinates have 16 bits
constexpr double most_pixels = 1 << 28;         // a GiB

template <auto release>
struct Release {
  template <class T>
  void operator()(T* resource) const {
    release(resource);
  }
};

using Surface = std::unique_ptr<cairo_surface_t, Release<cairo_surface_destroy>>;
using Context = std::unique_ptr<cairo_t, Release<cairo_destroy>>;
using Layout = std::unique_ptr<PangoLayout, Release<g_object_unref>>;
using Font = std::unique_ptr<PangoFontDescription, Release<pango_font_description_free>>;

class Canvas {
 public:
  Canvas(const Drawing& drawing, double scale) {
    const double width = std::ceil(drawing.width * scale), height = std::ceil(drawing.height * scale);
    surface_.reset(cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(width), static_cast<int>(height)));
    context_.reset(cairo_create(surface_.get()));
    cairo_scale(cairo(), scale, scale);
    layout_.reset(pango_cairo_create_layout(cairo()));
    set_colour({255, 255, 255});
    cairo_paint(cairo());
    for (const Shape& shape : drawing.shapes) std::visit(*this, shape);
    cairo_surface_flush(surface());
    const cairo_status_t status = cairo_status(cairo());
    require(status == CAIRO_STATUS_SUCCESS, ErrorCode::budget,
            std::string("picture: ") + cairo_status_to_string(status));
  }

  int width() const { return cairo_image_surface_get_width(surface()); }
  int height() const { return cairo_image_surface_get_height(surface()); }

  /// 0x00rrggbb each.
  std::span<const std::uint32_t> row(int y) const {
    const auto stride = static_cast<std::size_t>(cairo_image_surface_get_stride(surface()));
    const unsigned char* const data = cairo_image_surface_get_data(surface());
    return {reinterpret_cast<const std::uint32_t*>(data + static_cast<std::size_t>(y) * stride),
            static_cast<std::size_t>(width())};
  }

  cairo_surface_t* surface() const { return surface_.get(); }

  void operator()(const Rect& r) {
    set_colour(r.fill);
    cairo_set_antialias(cairo(), CAIRO_ANTIALIAS_NONE);
    cairo_rectangle(cairo(), r.x, r.y, r.width, r.height);
    cairo_fill(cairo());
    cairo_set_antialias(cairo(), CAIRO_ANTIALIAS_DEFAULT);
  }

  void operator()(const Line& line) {
    for (const Point p : line.points) cairo_line_to(cairo(), p.x, p.y);
    stroke(line.stroke, line.width);
  }

  void operator()(const Arrow& a) {
    cairo_move_to(cairo(), a.from.x, a.from.y);
    cairo_curve_to(cairo(), a.control_1.x, a.control_1.y, a.control_2.x, a.control_2.y, a.to.x, a.to.y);
    stroke(a.stroke, a.width);
    for (const Point p : a.head()) cairo_line_to(cairo(), p.x, p.y);
    cairo_fill(cairo());
  }

  void operator()(const Label& label) {
    const Font font(pango_font_description_from_string("DejaVu Sans Mono, monospace"));
    pango_font_description_set_absolute_size(font.get(), label.size * PANGO_SCALE);
    pango_layout_set_font_description(layout_.get(), font.get());
    pango_layout_set_single_paragraph_mode(layout_.get(), TRUE);
    pango_layout_set_auto_dir(layout_.get(), FALSE);  // every label begins at its left
    pango_layout_set_text(layout_.get(), label.text.data(), static_cast<int>(label.text.size()));
    PangoRectangle extents;
    pango_layout_get_extents(layout_.get(), nullptr, &extents);
    const double natural = static_cast<double>(extents.width) / PANGO_SCALE;
    set_colour(label.fill);
    cairo_save(cairo());
    cairo_translate(cairo(), label.x, label.y);
    if (label.width > 0 && natural > 0) cairo_scale(cairo(), label.width / natural, 1);
    cairo_move_to(cairo(), 0, -static_cast<double>(pango_layout_get_baseline(layout_.get())) / PANGO_SCALE);
    pango_cairo_show_layout(cairo(), layout_.get());
    cairo_restore(cairo());
    cairo_new_path(cairo());
  }

 private:
  cairo_t* cairo() const { return context_.get(); }
  void set_colour(Colour c) { cairo_set_source_rgb(cairo(), c.red / 255.0, c.green / 255.0, c.blue / 255.0); }
  void stroke(Colour colour, double width) {
    set_colour(colour);
    cairo_set_line_width(cairo(), width);
    cairo_stroke(cairo());
  }

  Surface surface_;
  Context context_;
  Layout layout_;
};

/// The most, up to `wanted`, at which the drawing is a picture that fits into memory.
double scale_for(const Drawing& drawing, double wanted) {
  const double side = std::max(drawing.width, drawing.height);
  const double scale =
      std::min({wanted, (most_pixels_per_side - 1) / side, std::sqrt(most_pixels / (drawing.width * drawing.height))});
  if (scale < 0.5)
    fail(ErrorCode::argument, "picture",
         "at most " + std::to_string(std::lround(2 * most_pixels_per_side)) + " units a side (--svg has no limit)",
         std::to_string(std::lround(side)));
  return scale;
}

[[noreturn]] void cannot_write(const OutputFile& file, const std::string& why) {
  fail(ErrorCode::file, file.path().string(), "a picture that can be written", why);
}

/// A file for libraries in C, which no exception may cross: it waits until they have returned.
class Sink {
 public:
  explicit Sink(OutputFile& file) : file_(file) {}

  bool write(const unsigned char* bytes, std::size_t n) noexcept {
    try {
      if (!error_) file_.write({reinterpret_cast<const char*>(bytes), n});
    } catch (...) {
      error_ = std::current_exception();
    }
    return error_ == nullptr;
  }
  void check() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  OutputFile& file_;
  std::exception_ptr error_;
};

// --- GIF -------------------------------------------------------------------------------------------------------------

/// The colours that are met most, and for every colour the nearest of them. The last entry is no colour: transparent.
class Palette {
 public:
  void count(const Canvas& canvas) {
    for (int y = 0; y < canvas.height(); ++y)
      for (const std::uint32_t pixel : canvas.row(y)) ++met_[pixel & 0xffffff];
  }

  void choose() {
    std::vector<std::pair<std::uint32_t, std::size_t>> all(met_.begin(), met_.end());
    std::ranges::sort(all, [](const auto& a, const auto& b) {
      return a.second != b.second ? a.second > b.second : a.first < b.first;
    });
    for (const auto& [colour, times] : std::span(all).first(std::min(all.size(), size - 1))) colours_.push_back(colour);
    met_.clear();
  }

  std::vector<GifColorType> table() const {
    std::vector<GifColorType> colours(size);
    for (std::size_t i = 0; i < colours_.size(); ++i)
      colours[i] = {static_cast<GifByteType>(colours_[i] >> 16), static_cast<GifByteType>(colours_[i] >> 8 & 0xff),
                    static_cast<GifByteType>(colours_[i] & 0xff)};
    return colours;
  }

  GifByteType nearest(std::uint32_t pixel) {
    const std::uint32_t colour = pixel & 0xffffff;
    const auto [found, is_new] = nearest_.try_emplace(colour);
    if (is_new) {
      const auto best = std::ranges::min_element(colours_, {}, [&](std::uint32_t c) { return distance(c, colour); });
      found->second = static_cast<GifByteType>(best - colours_.begin());
    }
    return found->second;
  }

  static constexpr std::size_t size = 256;
  static constexpr GifByteType transparent = 255;

 private:
  static int distance(std::uint32_t a, std::uint32_t b) {
    int sum = 0;
    for (int shift = 0; shift < 24; shift += 8) {
      const int d = static_cast<int>(a >> shift & 0xff) - static_cast<int>(b >> shift & 0xff);
      sum += d * d;
    }
    return sum;
  }

  std::unordered_map<std::uint32_t, std::size_t> met_;
  std::unordered_map<std::uint32_t, GifByteType> nearest_;
  std::vector<std::uint32_t> colours_;
};

std::string gif_error(int code) {
  const char* const text = GifErrorString(code);
  return text != nullptr ? text : "giflib error " + std::to_string(code);
}

class GifFile {
 public:
  GifFile(OutputFile& file, int width, int height, std::span<const GifColorType> colours) : file_(file), sink_(file) {
    int error = 0;
    gif_ = EGifOpen(&sink_, write, &error);
    if (gif_ == nullptr) cannot_write(file_, gif_error(error));
    EGifSetGifVersion(gif_, true);
    ColorMapObject* const map = GifMakeMapObject(static_cast<int>(colours.size()), colours.data());
    check(EGifPutScreenDesc(gif_, width, height, 8, 0, map));
    GifFreeMapObject(map);
    constexpr char loop[] = "NETSCAPE2.0";
    constexpr GifByteType forever[] = {1, 0, 0};
    check(EGifPutExtensionLeader(gif_, APPLICATION_EXT_FUNC_CODE));
    check(EGifPutExtensionBlock(gif_, 11, loop));
    check(EGifPutExtensionBlock(gif_, sizeof(forever), forever));
    check(EGifPutExtensionTrailer(gif_));
  }
  ~GifFile() {
    if (gif_ != nullptr) EGifCloseFile(gif_, nullptr);
  }
  GifFile(const GifFile&) = delete;
  GifFile& operator=(const GifFile&) = delete;

  /// Part of a picture, over what the frames before have left. pixels: [height][width]
  void frame(int left, int top, int width, std::span<const GifByteType> pixels, int hundredths) {
    const GraphicsControlBlock control{DISPOSE_DO_NOT, false, hundredths, Palette::transparent};
    GifByteType block[4];
    const auto size = EGifGCBToExtension(&control, block);
    check(EGifPutExtension(gif_, GRAPHICS_EXT_FUNC_CODE, static_cast<int>(size), block));
    const int height = static_cast<int>(pixels.size()) / width;
    check(EGifPutImageDesc(gif_, left, top, width, height, false, nullptr));
    std::vector<GifByteType> line(static_cast<std::size_t>(width));
    for (int y = 0; y < height; ++y) {
      std::ranges::copy(pixels.subspan(static_cast<std::size_t>(y) * line.size(), line.size()), line.begin());
      check(EGifPutLine(gif_, line.data(), width));
    }
  }

  void close() {
    int error = 0;
    const int closed = EGifCloseFile(std::exchange(gif_, nullptr), &error);
    sink_.check();
    if (closed == GIF_ERROR) cannot_write(file_, gif_error(error));
    file_.finish();
  }

 private:
  static int write(GifFileType* gif, const GifByteType* bytes, int n) {
    return static_cast<Sink*>(gif->UserData)->write(bytes, static_cast<std::size_t>(n)) ? n : -1;
  }

  void check(int result) const {
    sink_.check();
    if (result == GIF_ERROR) cannot_write(file_, gif_error(gif_->Error));
  }

  OutputFile& file_;
  Sink sink_;
  GifFileType* gif_ = nullptr;
};

/// The smallest rectangle in which two pictures differ.
struct Change {
  int left, top, right = 0, bottom = 0;  // right and bottom: past it
};

Change change(std::span<const GifByteType> before, std::span<const GifByteType> after, int width, int height) {
  Change c{width, height};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const auto i = static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
      if (before[i] == after[i]) continue;
      c = {std::min(c.left, x), std::min(c.top, y), std::max(c.right, x + 1), y + 1};
    }
  return c;
}

}  // namespace

void require_raster() {}

void write_png(OutputFile& file, const Drawing& drawing) {
  const Canvas canvas(drawing, scale_for(drawing, 2));
  Sink sink(file);
  const auto write = [](void* to, const unsigned char* bytes, unsigned n) {
    return static_cast<Sink*>(to)->write(bytes, n) ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
  };
  const cairo_status_t status = cairo_surface_write_to_png_stream(canvas.surface(), write, &sink);
  sink.check();
  if (status != CAIRO_STATUS_SUCCESS) cannot_write(file, cairo_status_to_string(status));
  file.finish();
}

void write_gif(OutputFile& file, std::size_t count, const std::function<Drawing(std::size_t)>& frame) {
  constexpr std::size_t samples = 8;  // drawings that the palette is chosen from
  constexpr int delay = 12, delay_at_end = 300;
  Palette palette;
  int width = 0, height = 0;
  double scale = 1;
  for (std::size_t s = std::min(samples, count); s > 0; --s) {
    const Drawing drawing = frame(s * count / std::min(samples, count) - 1);
    scale = scale_for(drawing, 1);
    const Canvas canvas(drawing, scale);
    palette.count(canvas);
    width = canvas.width();
    height = canvas.height();
  }
  palette.choose();
  GifFile gif(file, width, height, palette.table());
  std::vector<GifByteType> before, pixels, part;
  for (std::size_t i = 0; i < count; ++i) {
    const Canvas canvas(frame(i), scale);
    pixels.clear();
    for (int y = 0; y < height; ++y)
      for (const std::uint32_t pixel : canvas.row(y)) pixels.push_back(palette.nearest(pixel));
    Change c{0, 0, width, height};
    if (!before.empty()) c = change(before, pixels, width, height);
    if (c.right == 0) c = {0, 0, 1, 1};  // nothing changed, and yet it lasts
    part.clear();
    for (int y = c.top; y < c.bottom; ++y)
      for (int x = c.left; x < c.right; ++x) {
        const auto at = static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x);
        // What stays is left out: long runs of one number take next to nothing.
        part.push_back(!before.empty() && before[at] == pixels[at] ? Palette::transparent : pixels[at]);
      }
    gif.frame(c.left, c.top, c.right - c.left, part, i + 1 == count ? delay_at_end : delay);
    before = pixels;
  }
  gif.close();
}

}  // namespace pith::tool
