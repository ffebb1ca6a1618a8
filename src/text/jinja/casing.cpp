// SPDX-License-Identifier: MIT
#include "text/jinja/casing.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "text/jinja/characters.hpp"
#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

struct Codes {
  char32_t first, last;
};

/// Characters whose upper or title case is several characters (Unicode's SpecialCasing.txt).
constexpr std::array<Codes, 22> grow = {
    {{0x149, 0x149},   {0x1f0, 0x1f0},   {0x390, 0x390},   {0x3b0, 0x3b0},   {0x587, 0x587},   {0x1e96, 0x1e9a},
     {0x1f50, 0x1f50}, {0x1f52, 0x1f52}, {0x1f54, 0x1f54}, {0x1f56, 0x1f56}, {0x1f80, 0x1faf}, {0x1fb2, 0x1fb4},
     {0x1fb6, 0x1fb7}, {0x1fbc, 0x1fbc}, {0x1fc2, 0x1fc7}, {0x1fcc, 0x1fcc}, {0x1fd2, 0x1fd7}, {0x1fe2, 0x1fe7},
     {0x1ff2, 0x1ff7}, {0x1ffc, 0x1ffc}, {0xfb00, 0xfb06}, {0xfb13, 0xfb17}}};

enum class Case { upper, lower, title };

void append_cased(Runtime& runtime, std::string& out, char32_t code, Case to) {
  if (to == Case::lower) {
    if (code == 0x3a3) runtime.unsupported("the lower case of a capital sigma");
    append(out, to_lower(code));
    if (code == 0x130) append(out, 0x307);
    return;
  }
  if (code == 0xdf) {
    out += to == Case::upper ? "SS" : "Ss";
    return;
  }
  if (std::any_of(grow.begin(), grow.end(), [&](Codes codes) { return code >= codes.first && code <= codes.last; }))
    runtime.unsupported("the upper case of a letter that becomes several");
  append(out, to == Case::upper ? to_upper(code) : to_title(code));
}

/// Each character in the case that `choose` names for it.
template <class Choose>
std::string mapped(Runtime& runtime, std::string_view text, Choose choose) {
  runtime.work(text.size() / 16);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = first_character(text);
    text.remove_prefix(c.bytes);
    append_cased(runtime, out, c.code, choose(c.code));
  }
  return out;
}

/// Whether every character with case has this one, and there are such.
bool all_of_case(Runtime& runtime, std::string_view text, bool lower) {
  runtime.work(text.size() / 16);
  bool any = false;
  while (!text.empty()) {
    const Character c = first_character(text);
    text.remove_prefix(c.bytes);
    if (!is_cased(c.code)) continue;
    if (is_lower(c.code) != lower) return false;
    any = true;
  }
  return any;
}

}  // namespace

std::string upper(Runtime& runtime, std::string_view text) {
  return mapped(runtime, text, [](char32_t) { return Case::upper; });
}

std::string lower(Runtime& runtime, std::string_view text) {
  return mapped(runtime, text, [](char32_t) { return Case::lower; });
}

std::string capitalize(Runtime& runtime, std::string_view text) {
  bool first = true;
  return mapped(runtime, text, [&](char32_t) { return std::exchange(first, false) ? Case::title : Case::lower; });
}

std::string title(Runtime& runtime, std::string_view text) {
  bool in_word = false;
  return mapped(runtime, text,
                [&](char32_t code) { return std::exchange(in_word, is_cased(code)) ? Case::lower : Case::title; });
}

std::string title_words(Runtime& runtime, std::string_view text) {
  bool first = true;
  return mapped(runtime, text, [&](char32_t code) {
    const bool separates = is_space(code) || (code < 0x80 && std::string_view("-({[<").find(static_cast<char>(code)) !=
                                                                 std::string_view::npos);
    if (separates) {
      first = true;
      return Case::lower;
    }
    return std::exchange(first, false) ? Case::upper : Case::lower;
  });
}

bool all_upper(Runtime& runtime, std::string_view text) { return all_of_case(runtime, text, false); }

bool all_lower(Runtime& runtime, std::string_view text) { return all_of_case(runtime, text, true); }

}  // namespace pith::text::jinja
