// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <string>

#include "printable.hpp"
#include "text/jinja/arguments.hpp"
#include "text/jinja/casing.hpp"
#include "text/jinja/characters.hpp"
#include "text/jinja/format.hpp"
#include "text/jinja/loop.hpp"
#include "text/jinja/methods.hpp"
#include "text/jinja/operators.hpp"
#include "text/jinja/printing.hpp"
#include "text/jinja/strings.hpp"
#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

const Text& self_text(Runtime& runtime, const Value& self) { return plain_text(runtime, *self.as<String>()); }

const Pairs& self_pairs(const Value& self) { return *self.as<Dict>()->pairs; }

template <Side side>
Value strip_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "strip", given, {"chars"});
  return runtime.text(strip(runtime, self_text(runtime, self), side, bound[0]));
}

template <Side side>
Value split_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "split", given, {"sep", "maxsplit"});
  const std::int64_t most = bound.integer(1, -1);
  return runtime.list(split(runtime, self_text(runtime, self), bound[0],
                            most < 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(most), side));
}

Value splitlines(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "splitlines", given, {"keepends"});
  if (bound.flag(0)) runtime.unsupported("splitlines(keepends=True)");
  const Text& text = self_text(runtime, self);
  runtime.work(text.size() / 16);
  std::vector<Value> out;
  for (const Range line : split_lines(text.bytes())) out.push_back(runtime.text(text.slice(line)));
  return runtime.list(std::move(out));
}

/// Whether one of the strings, or the string, that is given stands at that end.
template <Side side>
Value stands_at(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, side == Side::left ? "startswith" : "endswith", given, {"", " ", "  "}, 1);
  if (bound.has(1) || bound.has(2)) runtime.unsupported("startswith or endswith from a position");
  const std::string& text = self_text(runtime, self).bytes();
  const auto fits = [&](const std::string& part) {
    return side == Side::left ? text.starts_with(part) : text.ends_with(part);
  };
  if (const auto* several = bound[0].as<Tuple>()) {
    for (const Value& part : several->items->values) {
      if (!part.is<String>()) refuse(runtime, "startswith or endswith", part);
      if (fits(part.as<String>()->bytes())) return true;
    }
    return false;
  }
  return fits(bound.text(0).bytes());
}

template <std::string (*mapping)(Runtime&, std::string_view)>
Value case_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "a change of case", given, {});
  const Text& text = self_text(runtime, self);
  return runtime.text(mapping(runtime, text.bytes()), text.origin());
}

Value replace_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "replace", given, {"", " ", "  "}, 2);
  return runtime.text(replace(runtime, self_text(runtime, self), bound.text(0), bound.text(1), bound.integer(2, -1)));
}

std::optional<std::size_t> find_in(Runtime& runtime, const Value& self, const Bound& bound, Side side) {
  if (bound.has(1) || bound.has(2)) runtime.unsupported("a search from a position");
  const std::string& text = self_text(runtime, self).bytes();
  const std::string& part = bound.text(0).bytes();
  runtime.work((text.size() + part.size()) / 64);
  if (side == Side::right) runtime.work(text.size() * std::min<std::size_t>(part.size(), 1 << 20) / 256);
  const auto at = side == Side::left ? find_text(text, part) : text.rfind(part);
  if (at == text.npos) return {};
  return count_characters(std::string_view(text).substr(0, at));
}

template <Side side>
Value find_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "find", given, {"", " ", "  "}, 1);
  const auto at = find_in(runtime, self, bound, side);
  return at ? static_cast<std::int64_t>(*at) : std::int64_t{-1};
}

Value index_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "index", given, {"", " ", "  "}, 1);
  const auto at = find_in(runtime, self, bound, Side::left);
  if (!at) runtime.wrong("index(): the text is not found");
  return static_cast<std::int64_t>(*at);
}

Value count_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "count", given, {"", " ", "  "}, 1);
  if (bound.has(1) || bound.has(2)) runtime.unsupported("a count from a position");
  const std::string& text = self_text(runtime, self).bytes();
  const std::string& part = bound.text(0).bytes();
  if (part.empty()) return static_cast<std::int64_t>(count_characters(text)) + 1;
  runtime.work(text.size() / 16);
  std::int64_t n = 0;
  for (std::size_t at = find_text(text, part); at != text.npos; at = find_text(text, part, at + part.size())) {
    runtime.work(1 + part.size() / 256);
    ++n;
  }
  return n;
}

Value join_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "join", given, {""}, 1);
  const auto values = collect(runtime, bound[0]);
  for (const Value& value : values)
    if (!value.is<String>()) refuse(runtime, "joining it to a string", value);
  return runtime.text(join(runtime, values, self_text(runtime, self)));
}

Value format_method(Runtime& runtime, const Value& self, const Given& given) {
  return brace_format(runtime, self_text(runtime, self), given);
}

template <Side side>
Value remove_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, side == Side::left ? "removeprefix" : "removesuffix", given, {""}, 1);
  const Text& text = self_text(runtime, self);
  const std::string& part = bound.text(0).bytes();
  if (side == Side::left)
    return runtime.text(text.slice({text.bytes().starts_with(part) ? part.size() : 0, text.size()}));
  return runtime.text(text.slice({0, text.size() - (text.bytes().ends_with(part) ? part.size() : 0)}));
}

template <Side side>
Value partition_method(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "partition", given, {""}, 1);
  const Text& text = self_text(runtime, self);
  const Text& by = bound.text(0);
  if (by.size() == 0) runtime.wrong("partition(): the separator is empty");
  runtime.work(text.size() / 64);
  if (side == Side::right) runtime.work(text.size() * std::min<std::size_t>(by.size(), 1 << 20) / 256);
  const auto at = side == Side::left ? find_text(text.bytes(), by.bytes()) : text.bytes().rfind(by.bytes());
  const Value whole = runtime.text(text), nothing = runtime.text("");
  if (at == std::string::npos)
    return side == Side::left ? runtime.tuple({whole, nothing, nothing}) : runtime.tuple({nothing, nothing, whole});
  return runtime.tuple({runtime.text(text.slice({0, at})), runtime.text(text.slice({at, at + by.size()})),
                        runtime.text(text.slice({at + by.size(), text.size()}))});
}

/// Whether there are characters, and all of them are such.
template <class Is>
bool all_characters(Runtime& runtime, const Value& self, Is is) {
  std::string_view text = self_text(runtime, self).bytes();
  runtime.work(text.size() / 16);
  if (text.empty()) return false;
  while (!text.empty()) {
    const Character c = first_character(text);
    if (!is(c.code)) return false;
    text.remove_prefix(c.bytes);
  }
  return true;
}

Value isspace(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "isspace", given, {});
  return all_characters(runtime, self, is_space);
}

template <char32_t extra>
Value is_ascii_kind(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "a test of characters", given, {});
  return all_characters(runtime, self, [&](char32_t code) {
    if (code >= 0x80) runtime.unsupported("a test of characters beyond ASCII");
    const bool digit = code >= '0' && code <= '9';
    const bool letter = (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    return extra == 'd' ? digit : extra == 'a' ? letter : digit || letter;
  });
}

template <bool (*test)(Runtime&, std::string_view)>
Value is_case(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "a test of case", given, {});
  return test(runtime, self_text(runtime, self).bytes());
}

Value dict_items(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "items", given, {});
  return View{View::Of::items, self.as<Dict>()->pairs};
}

Value dict_keys(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "keys", given, {});
  return View{View::Of::keys, self.as<Dict>()->pairs};
}

Value dict_values(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "values", given, {});
  return View{View::Of::values, self.as<Dict>()->pairs};
}

Value dict_get(Runtime& runtime, const Value& self, const Given& given) {
  if (!given.named.empty()) runtime.wrong("\"get\" takes no arguments by name");
  const Bound bound(runtime, "get", given, {"key", "default"}, 1);
  require_key(runtime, bound[0]);
  runtime.work(self_pairs(self).pairs.size() / 16);
  if (const auto* key = bound[0].as<String>()) {
    const Value* found = find(self_pairs(self), key->bytes());
    return found != nullptr ? *found : bound[1];
  }
  for (const auto& [key, value] : self_pairs(self).pairs)
    if (equal(runtime, key, bound[0])) return value;
  return bound[1];
}

Value copy(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "copy", given, {});
  return self;
}

Value items_count(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "count", given, {""}, 1);
  std::int64_t n = 0;
  for (const Value& value : items_of(self)->values) n += equal(runtime, value, bound[0]) ? 1 : 0;
  return n;
}

Value items_index(Runtime& runtime, const Value& self, const Given& given) {
  const Bound bound(runtime, "index", given, {""}, 1);
  const auto& values = items_of(self)->values;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (equal(runtime, values[i], bound[0])) return static_cast<std::int64_t>(i);
  runtime.wrong("index(): the value is not in the list");
}

struct Method {
  std::string_view name;
  Native native;
};

constexpr std::array string_methods = {
    Method{"strip", strip_method<Side::both>},
    Method{"lstrip", strip_method<Side::left>},
    Method{"rstrip", strip_method<Side::right>},
    Method{"split", split_method<Side::left>},
    Method{"rsplit", split_method<Side::right>},
    Method{"splitlines", splitlines},
    Method{"startswith", stands_at<Side::left>},
    Method{"endswith", stands_at<Side::right>},
    Method{"upper", case_method<upper>},
    Method{"lower", case_method<lower>},
    Method{"title", case_method<title>},
    Method{"capitalize", case_method<capitalize>},
    Method{"replace", replace_method},
    Method{"find", find_method<Side::left>},
    Method{"rfind", find_method<Side::right>},
    Method{"index", index_method},
    Method{"count", count_method},
    Method{"join", join_method},
    Method{"format", format_method},
    Method{"removeprefix", remove_method<Side::left>},
    Method{"removesuffix", remove_method<Side::right>},
    Method{"partition", partition_method<Side::left>},
    Method{"rpartition", partition_method<Side::right>},
    Method{"isspace", isspace},
    Method{"isdigit", is_ascii_kind<'d'>},
    Method{"isalpha", is_ascii_kind<'a'>},
    Method{"isalnum", is_ascii_kind<'n'>},
    Method{"isupper", is_case<all_upper>},
    Method{"islower", is_case<all_lower>},
};
constexpr std::array<std::string_view, 18> other_string_methods = {
    "casefold",    "center",  "encode", "expandtabs", "format_map", "isascii", "isdecimal", "isidentifier", "isnumeric",
    "isprintable", "istitle", "ljust",  "maketrans",  "rindex",     "rjust",   "swapcase",  "translate",    "zfill"};

constexpr std::array dict_methods = {Method{"items", dict_items}, Method{"keys", dict_keys},
                                     Method{"values", dict_values}, Method{"get", dict_get}, Method{"copy", copy}};
constexpr std::array<std::string_view, 5> dict_changes = {"clear", "pop", "popitem", "setdefault", "update"};

constexpr std::array list_methods = {Method{"count", items_count}, Method{"index", items_index}, Method{"copy", copy}};
constexpr std::array<std::string_view, 8> list_changes = {"append", "clear",  "extend",  "insert",
                                                          "pop",    "remove", "reverse", "sort"};

constexpr std::array<std::string_view, 15> number_attributes = {
    "real",       "imag",       "numerator", "denominator",      "conjugate", "bit_length", "bit_count", "to_bytes",
    "from_bytes", "is_integer", "hex",       "as_integer_ratio", "fromhex",   "start",      "stop"};

bool has(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::optional<Value> find_method(std::span<const Method> methods, std::string_view name, const Value& object) {
  for (const Method& method : methods)
    if (method.name == name) return Function{method.name, method.native, std::make_shared<const Value>(object)};
  return {};
}

}  // namespace

std::optional<Value> type_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  const auto unsafe = [&] {
    return Runtime::undefined("access to the attribute " + in_quotes(name) + " of a value of type " +
                              std::string(type_name(object)) + " is not safe");
  };
  if (name.starts_with("__") && name.ends_with("__") && name.size() > 4) return unsafe();
  if (const auto* data = object.as<Namespace>()) {
    const Value* found = data->data->find(name);
    return found != nullptr ? std::optional(*found) : std::nullopt;
  }
  if (const auto* loop = object.as<Loop>()) return loop_attribute(runtime, *loop, name);

  std::optional<Value> out;
  bool known = false;  // Python has it, and this does not
  if (object.is<String>()) {
    out = find_method(string_methods, name, object);
    known = has(other_string_methods, name);
  } else if (object.is<Dict>()) {
    out = find_method(dict_methods, name, object);
    known = name == "fromkeys";
    if (has(dict_changes, name)) return unsafe();
  } else if (items_of(object) != nullptr) {
    if (object.is<List>() && has(list_changes, name)) return unsafe();
    if (!(object.is<Tuple>() && name == "copy")) out = find_method(list_methods, name, object);
  } else if (object.is<std::int64_t>() || object.is<double>() || object.is<bool>() || object.is<Numbers>()) {
    known = has(number_attributes, name);
  } else if (object.is<RoutineValue>() || object.is<Function>() || object.is<View>() || object.is<Iterator>()) {
    runtime.unsupported("an attribute of a value of type " + std::string(type_name(object)));
  }
  if (!out && known)
    runtime.unsupported("the attribute " + in_quotes(name) + " of a value of type " + std::string(type_name(object)));
  return out;
}

}  // namespace pith::text::jinja
