// SPDX-License-Identifier: MIT
#include "text/jinja/strings.hpp"

#include <algorithm>

#include "text/jinja/characters.hpp"
#include "text/jinja/operators.hpp"
#include "text/jinja/printing.hpp"
#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

std::vector<Value> split_at_space(Runtime& runtime, const Text& text, std::size_t most, Side from) {
  const std::string_view bytes = text.bytes();
  std::vector<Value> out;
  Range rest{0, bytes.size()};
  while (true) {
    if (from == Side::left) {
      rest.begin += leading_space(rest.of(bytes));
    } else {
      rest.end -= trailing_space(rest.of(bytes));
    }
    if (rest.size() == 0) break;
    runtime.work();
    Range word = rest;
    if (out.size() < most) {
      if (from == Side::left) {
        std::size_t end = rest.begin;
        while (end < rest.end) {
          const Character c = first_character(bytes.substr(end));
          if (is_space(c.code)) break;
          end += c.bytes;
        }
        word.end = rest.begin = end;
      } else {
        std::size_t begin = rest.end;
        while (begin > rest.begin) {
          std::size_t start = begin - 1;
          while ((static_cast<unsigned char>(bytes[start]) & 0xc0u) == 0x80) --start;
          if (is_space(first_character(bytes.substr(start)).code)) break;
          begin = start;
        }
        word.begin = rest.end = begin;
      }
    } else {
      rest.begin = rest.end;
    }
    out.push_back(runtime.text(text.slice(word)));
  }
  if (from == Side::right) std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

Text strip(Runtime& runtime, const Text& text, Side side, const Value& characters) {
  const std::string_view bytes = text.bytes();
  runtime.work(bytes.size() / 256);
  Range kept{0, bytes.size()};
  if (characters.is<None>()) {
    if (side != Side::right) kept.begin += leading_space(bytes);
    if (side != Side::left) kept.end -= trailing_space(kept.of(bytes));
    return text.slice(kept);
  }

  const auto* set = characters.as<String>();
  if (set == nullptr) refuse(runtime, "stripping such characters", characters);
  const std::string_view strips = set->bytes();
  const auto starts = character_starts(bytes);
  std::size_t first = 0, last = starts.size() - 1;
  const auto stripped = [&](std::size_t i) {
    runtime.work(1 + strips.size() / 256);
    return strips.find(bytes.substr(starts[i], starts[i + 1] - starts[i])) != strips.npos;
  };
  if (side != Side::right)
    while (first < last && stripped(first)) ++first;
  if (side != Side::left)
    while (last > first && stripped(last - 1)) --last;
  return text.slice({starts[first], starts[last]});
}

std::vector<Value> split(Runtime& runtime, const Text& text, const Value& separator, std::size_t most, Side from) {
  runtime.work(text.size() / 16);
  if (separator.is<None>()) return split_at_space(runtime, text, most, from);
  const auto* string = separator.as<String>();
  if (string == nullptr) refuse(runtime, "splitting at it", separator);
  const std::string& by = string->bytes();
  if (by.empty()) runtime.wrong("split(): the separator is empty");
  if (from == Side::right) runtime.work(text.size() * std::min<std::size_t>(by.size(), 1 << 20) / 256);

  std::vector<Value> out;
  Range rest{0, text.size()};
  while (out.size() < most) {
    runtime.work(1 + by.size() / 256);
    const std::string_view bytes = std::string_view(text.bytes()).substr(0, rest.end);
    const auto at = from == Side::left ? find_text(bytes, by, rest.begin) : bytes.rfind(by);
    if (at == bytes.npos) break;
    if (from == Side::left) {
      out.push_back(runtime.text(text.slice({rest.begin, at})));
      rest.begin = at + by.size();
    } else {
      out.push_back(runtime.text(text.slice({at + by.size(), rest.end})));
      rest.end = at;
    }
  }
  out.push_back(runtime.text(text.slice(rest)));
  if (from == Side::right) std::reverse(out.begin(), out.end());
  return out;
}

Text replace(Runtime& runtime, const Text& text, const Text& what, const Text& with, std::int64_t most) {
  runtime.work(text.size() / 16);
  const std::string& bytes = text.bytes();
  Text out;
  const auto add = [&](const Text& from, Range part) {
    runtime.check_text(out.size() + part.size());
    out.append(from, part);
  };
  std::size_t done = 0;
  if (what.size() == 0) {  // stands before every character, and at the end
    const auto starts = character_starts(bytes);
    for (std::size_t i = 0; i < starts.size() && most != 0; ++i) {
      runtime.work();
      add(text, {done, starts[i]});
      add(with, {0, with.size()});
      done = starts[i];
      if (most > 0) --most;
    }
  } else {
    for (; most != 0; most -= most > 0 ? 1 : 0) {
      runtime.work(1 + what.size() / 256);
      const auto at = find_text(bytes, what.bytes(), done);
      if (at == bytes.npos) break;
      add(text, {done, at});
      add(with, {0, with.size()});
      done = at + what.size();
    }
  }
  add(text, {done, bytes.size()});
  return out;
}

Text join(Runtime& runtime, const std::vector<Value>& values, const Text& between) {
  Text out;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Text part = str(runtime, values[i]);
    runtime.work(1 + part.size() / 256);
    runtime.check_text(out.size() + part.size() + between.size());
    if (i > 0) out.append(between);
    out.append(part);
  }
  return out;
}

}  // namespace pith::text::jinja
