// SPDX-License-Identifier: MIT
// Each as jinja2/filters.py has it; the comments there are its manual.
#include "text/jinja/filters.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "printable.hpp"
#include "text/jinja/arguments.hpp"
#include "text/jinja/casing.hpp"
#include "text/jinja/characters.hpp"
#include "text/jinja/format.hpp"
#include "text/jinja/methods.hpp"
#include "text/jinja/numbers.hpp"
#include "text/jinja/operators.hpp"
#include "text/jinja/printing.hpp"
#include "text/jinja/strings.hpp"
#include "text/jinja/value_tests.hpp"
#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

/// The text of a string, or what another value prints.
Text soft_text(Runtime& runtime, const Value& value) {
  if (const auto* string = value.as<String>()) return plain_text(runtime, *string);
  return str(runtime, value);
}

std::int64_t signed_length(Runtime& runtime, const Value& value) {
  return static_cast<std::int64_t>(length(runtime, value));
}

// Texts.

template <std::string (*mapping)(Runtime&, std::string_view)>
Value case_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "a change of case", given, {});
  const Text text = soft_text(runtime, object);
  return runtime.text(mapping(runtime, text.bytes()), text.origin());
}

Value trim(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "trim", given, {"chars"});
  return runtime.text(strip(runtime, soft_text(runtime, object), Side::both, bound[0]));
}

Value replace_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "replace", given, {"old", "new", "count"}, 2);
  const std::int64_t most = bound[2].is<None>() ? -1 : bound.integer(2, -1);
  return runtime.text(replace(runtime, str(runtime, object), str(runtime, bound[0]), str(runtime, bound[1]), most));
}

Value string_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "string", given, {});
  return object.is<String>() ? object : runtime.text(str(runtime, object));
}

Value marked(Value value) {
  String string = *value.as<String>();
  string.markup = true;
  return string;
}

Value safe(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "safe", given, {});
  return marked(object.is<String>() ? object : runtime.text(str(runtime, object)));
}

Value escape(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "escape", given, {});
  if (object.is<String>() && object.as<String>()->markup) return object;
  const Text text = str(runtime, object);
  runtime.work(text.size() / 16);
  runtime.check_text(text.size() * 5);
  std::string out;
  for (const char c : text.bytes()) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return marked(runtime.text(std::move(out), text.origin()));
}

Value indent(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "indent", given, {"width", "first", "blank"});
  const auto* string = object.as<String>();
  if (string == nullptr) refuse(runtime, "indent", object);
  const Text& text = plain_text(runtime, *string);
  Text step;
  if (bound[0].is<String>()) {
    step = bound.text(0);
  } else {
    const std::int64_t width = std::max<std::int64_t>(bound.integer(0, 4), 0);
    runtime.check_text(static_cast<std::size_t>(width));
    step = Text(std::string(static_cast<std::size_t>(width), ' '));
  }

  auto lines = split_lines(text.bytes());
  // The filter adds a newline before it splits: a text that is empty or ends in a newline has one more, empty line.
  if (text.size() == 0 || (!lines.empty() && lines.back().end != text.size()))
    lines.push_back({text.size(), text.size()});
  Text out;
  const auto add = [&](const Text& from, Range part) {
    runtime.check_text(out.size() + part.size());
    out.append(from, part);
  };
  for (std::size_t i = 0; i < lines.size(); ++i) {
    runtime.work();
    if (i > 0) out.append("\n", Origin::of_template);
    const bool indents = i == 0 ? bound.flag(1) : bound.flag(2) || lines[i].size() > 0;
    if (indents) add(step, {0, step.size()});
    add(text, lines[i]);
  }
  return runtime.text(std::move(out));
}

Value wordcount(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "wordcount", given, {});
  const Text text = soft_text(runtime, object);
  runtime.work(text.size() / 16);
  std::int64_t n = 0;
  bool in_word = false;
  for (const char c : text.bytes()) {
    if (static_cast<unsigned char>(c) >= 0x80) runtime.unsupported("counting words beyond ASCII");
    const char letter = static_cast<char>(c | 0x20);
    const bool word = (letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || c == '_';
    if (word && !in_word) ++n;
    in_word = word;
  }
  return n;
}

Value format_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Text text = soft_text(runtime, object);
  if (given.named.empty()) return percent_format(runtime, text, runtime.tuple(given.positional));
  if (!given.positional.empty()) runtime.wrong("\"format\": expected arguments by place or by name, found both");
  std::vector<std::pair<Value, Value>> pairs;
  for (const auto& [name, value] : given.named) pairs.emplace_back(runtime.text(name), value);
  return percent_format(runtime, text, runtime.dict(std::move(pairs)));
}

Value tojson(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "tojson", given, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.flag(0);
  style.sort_keys = bound.flag(3);
  if (bound[1].is<String>()) {
    style.indent = bound.text(1);
  } else if (!bound[1].is<None>()) {
    const std::int64_t width = std::max<std::int64_t>(bound.integer(1, 0), 0);
    runtime.check_text(static_cast<std::size_t>(width));
    style.indent = Text(std::string(static_cast<std::size_t>(width), ' '));
  }
  style.item_separator = Text(style.indent ? "," : ", ");
  style.key_separator = Text(": ");
  if (!bound[2].is<None>()) {
    const Items* both = items_of(bound[2]);
    if (both == nullptr || both->values.size() != 2 || !both->values[0].is<String>() || !both->values[1].is<String>())
      runtime.wrong("\"tojson\": expected two strings for \"separators\"");
    style.item_separator = plain_text(runtime, *both->values[0].as<String>());
    style.key_separator = plain_text(runtime, *both->values[1].as<String>());
  }
  return runtime.text(to_json(runtime, object, style));
}

// Numbers.

Value integer(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "int", given, {"default", "base"});
  const Value otherwise = bound.get(0, std::int64_t{0});
  const auto whole = [&](double value) -> Value {
    if (!std::isfinite(value)) return otherwise;
    if (std::abs(value) >= 0x1p63) runtime.unsupported("an integer beyond 64 bits");
    return static_cast<std::int64_t>(value);
  };
  if (const auto* string = object.as<String>()) {
    const std::int64_t base = bound.integer(1, 10);
    if (base != 10) runtime.unsupported("\"int\" to another base than 10");
    const std::string& text = plain_text(runtime, *string).bytes();
    if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
      runtime.unsupported("\"int\" of text beyond ASCII");
    if (const auto value = parse_integer(text, 10)) return *value;
    const auto real = parse_real(text);
    return real ? whole(*real) : otherwise;
  }
  if (const auto value = integer_of(object)) return *value;
  if (const auto* real = object.as<double>()) return whole(*real);
  if (object.is<Undefined>()) refuse(runtime, "int", object);
  return otherwise;
}

Value real(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "float", given, {"default"});
  if (const auto* string = object.as<String>()) {
    const std::string& text = plain_text(runtime, *string).bytes();
    if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
      runtime.unsupported("\"float\" of text beyond ASCII");
    const auto value = parse_real(text);
    return value ? Value(*value) : bound.get(0, 0.0);
  }
  if (const auto value = number_of(object)) return *value;
  if (object.is<Undefined>()) refuse(runtime, "float", object);
  return bound.get(0, 0.0);
}

Value absolute(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "abs", given, {});
  if (const auto* value = object.as<double>()) return std::abs(*value);
  const auto value = integer_of(object);
  if (!value) refuse(runtime, "abs", object);
  return *value < 0 ? negative(runtime, *value) : Value(*value);
}

Value round_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "round", given, {"precision", "method"});
  const std::int64_t precision = bound.integer(0, 0);
  const std::string method = bound.has(1) ? bound.text(1).bytes() : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    runtime.wrong("\"round\": expected \"common\", \"ceil\" or \"floor\", found " + in_quotes(method));
  if (precision < 0 || precision > 15) runtime.unsupported("\"round\" to that many digits");
  const auto value = number_of(object);
  if (!value) refuse(runtime, "round", object);
  if (method == "common") {
    if (const auto whole = integer_of(object)) return *whole;
    return round_to(*value, static_cast<int>(precision));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = method == "ceil" ? std::ceil(*value * scale) : std::floor(*value * scale);
  if (std::abs(scaled) >= 0x1p53) runtime.unsupported("\"round\" of a number that large");
  return scaled / scale + 0.0;  // Python's ceil gives an integer, which has no negative zero
}

// Sequences.

/// "a.b.0" as the keys of one item after another.
std::vector<Value> attribute_path(Runtime& runtime, const Value& attribute) {
  std::vector<Value> out;
  if (attribute.is<None>()) return out;
  const auto* path = attribute.as<String>();
  if (path == nullptr) {
    out.push_back(attribute);
    return out;
  }
  for (const Value& part : split(runtime, plain_text(runtime, *path), runtime.text("."),
                                 std::numeric_limits<std::size_t>::max(), Side::left)) {
    const std::string& name = part.as<String>()->bytes();
    const bool digits = !name.empty() && name.find_first_not_of("0123456789") == name.npos;
    const auto index = digits ? parse_integer(name, 10) : std::nullopt;
    out.push_back(index ? Value(*index) : part);
  }
  return out;
}

Value at_path(Runtime& runtime, Value value, const std::vector<Value>& path, const Value& otherwise = {}) {
  for (const Value& key : path) {
    value = item(runtime, value, key);
    if (value.is<Undefined>() && !otherwise.is<None>()) value = otherwise;
  }
  return value;
}

Value without_case(Runtime& runtime, const Value& value) {
  const auto* string = value.as<String>();
  return string == nullptr ? value : runtime.text(lower(runtime, plain_text(runtime, *string).bytes()));
}

Stream nothing() {
  return [] { return std::optional<Value>(); };
}

/// A generator: nothing happens before it is read, not even checks. `start(source)` gives what then gives the values;
/// it may hold `given`.
template <class Start>
Value generator(Runtime& runtime, const Value& source, const Given& given, Start start) {
  int depth = depth_of(source);
  for (const Value& value : given.positional) depth = std::max(depth, depth_of(value));
  for (const auto& [name, value] : given.named) depth = std::max(depth, depth_of(value));
  return runtime.iterator(
      [source, start = std::move(start), inner = Stream()]() mutable {
        if (!inner) inner = start(source);
        return inner();
      },
      depth);
}

Value map(Runtime& runtime, const Value& object, const Given& given) {
  return generator(runtime, object, given, [&runtime, given](const Value& source) -> Stream {
    if (!truth(source)) return nothing();
    std::function<Value(const Value&)> apply;
    const auto attribute = std::find_if(given.named.begin(), given.named.end(),
                                        [](const auto& pair) { return pair.first == "attribute"; });
    if (given.positional.empty() && attribute != given.named.end()) {
      const Bound bound(runtime, "map", given, {"attribute", "default"});
      apply = [&runtime, path = attribute_path(runtime, bound[0]), otherwise = bound[1]](const Value& value) {
        return at_path(runtime, value, path, otherwise);
      };
    } else {
      if (given.positional.empty() || !given.positional[0].is<String>())
        runtime.wrong("\"map\": expected the name of a filter, or attribute=...");
      Given rest = given;
      rest.positional.erase(rest.positional.begin());
      apply = [&runtime, name = given.positional[0].as<String>()->bytes(), rest](const Value& value) {
        return call_filter(runtime, name, value, rest);
      };
    }
    return [next = iterate(runtime, source), apply]() -> std::optional<Value> {
      const auto value = next();
      return value ? std::optional(apply(*value)) : std::nullopt;
    };
  });
}

enum class Keep { passing, failing };
enum class Of { items, attributes };

template <Keep keep, Of of>
Value select(Runtime& runtime, const Value& object, const Given& given) {
  return generator(runtime, object, given, [&runtime, given](const Value& source) -> Stream {
    if (!truth(source)) return nothing();
    Given rest = given;
    const auto take = [&] {
      Value first = rest.positional.front();
      rest.positional.erase(rest.positional.begin());
      return first;
    };
    std::vector<Value> path;
    if (of == Of::attributes) {
      if (rest.positional.empty()) runtime.wrong("\"selectattr\": expected the name of an attribute, found none");
      path = attribute_path(runtime, take());
    }
    std::string test;
    if (!rest.positional.empty()) {
      const Value name = take();
      if (!name.is<String>()) runtime.wrong("\"select\": expected the name of a test");
      test = name.as<String>()->bytes();
    }
    return [&runtime, next = iterate(runtime, source), path, test, rest]() -> std::optional<Value> {
      while (auto value = next()) {
        const Value judged = at_path(runtime, *value, path);
        const bool passes = test.empty() ? truth(judged) : call_test(runtime, test, judged, rest);
        if (passes == (keep == Keep::passing)) return value;
      }
      return {};
    };
  });
}

Value unique(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "unique", given, {"case_sensitive", "attribute"});
  return generator(
      runtime, object, given,
      [&runtime, with_case = bound.flag(0), attribute = bound[1]](const Value& source) -> Stream {
        return [&runtime, with_case, next = iterate(runtime, source), path = attribute_path(runtime, attribute),
                seen = std::vector<Value>()]() mutable -> std::optional<Value> {
          while (auto value = next()) {
            Value key = at_path(runtime, *value, path);
            if (!with_case) key = without_case(runtime, key);
            require_key(runtime, key);
            if (std::any_of(seen.begin(), seen.end(), [&](const Value& other) { return equal(runtime, key, other); }))
              continue;
            seen.push_back(std::move(key));
            return value;
          }
          return {};
        };
      });
}

Value batch(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "batch", given, {"linecount", "fill_with"}, 1);
  const std::int64_t size = bound.integer(0, 0);
  if (size <= 0 || size > 1'000'000) runtime.unsupported("\"batch\" of that size");
  return generator(runtime, object, given,
                   [&runtime, size = static_cast<std::size_t>(size), fill = bound[1]](const Value& source) -> Stream {
                     return [&runtime, size, fill, next = iterate(runtime, source)]() -> std::optional<Value> {
                       std::vector<Value> row;
                       while (row.size() < size) {
                         auto value = next();
                         if (!value) break;
                         row.push_back(std::move(*value));
                       }
                       if (row.empty()) return {};
                       if (!fill.is<None>()) row.resize(size, fill);
                       return runtime.list(std::move(row));
                     };
                   });
}

Value items_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "items", given, {});
  return generator(runtime, object, given, [&runtime](const Value& source) -> Stream {
    if (source.is<Undefined>()) return nothing();
    const auto* dict = source.as<Dict>();
    if (dict == nullptr) refuse(runtime, "items", source);
    return iterate(runtime, View{View::Of::items, dict->pairs});
  });
}

Value first(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "first", given, {});
  const auto value = iterate(runtime, object)();
  return value ? *value : Runtime::undefined("there is no first item: the sequence is empty");
}

bool has_reverse(const Value& value) {
  return value.is<Undefined>() || value.is<String>() || items_of(value) != nullptr || value.is<Dict>() ||
         value.is<View>() || value.is<Numbers>();
}

Value last(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "last", given, {});
  if (!has_reverse(object)) refuse(runtime, "last", object);
  auto values = collect(runtime, object);
  return !values.empty() ? values.back() : Runtime::undefined("there is no last item: the sequence is empty");
}

Value reverse(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "reverse", given, {});
  if (const auto* string = object.as<String>()) {
    const Text& text = plain_text(runtime, *string);
    const auto starts = character_starts(text.bytes());
    runtime.work(starts.size() / 4);
    Text out;
    for (std::size_t i = starts.size() - 1; i-- > 0;) out.append(text, {starts[i], starts[i + 1]});
    return runtime.text(std::move(out));
  }
  auto values = collect(runtime, object);
  std::reverse(values.begin(), values.end());
  if (!has_reverse(object)) return runtime.list(std::move(values));
  return runtime.iterator(
      [values = std::make_shared<const std::vector<Value>>(std::move(values)), i = std::size_t{0}]() mutable {
        return i < values->size() ? std::optional((*values)[i++]) : std::nullopt;
      },
      depth_of(object));
}

Value list(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "list", given, {});
  return runtime.list(collect(runtime, object));
}

Value length_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "length", given, {});
  return signed_length(runtime, object);
}

Value join_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "join", given, {"d", "attribute"});
  auto values = collect(runtime, object);
  if (!bound[1].is<None>()) {
    const auto path = attribute_path(runtime, bound[1]);
    for (Value& value : values) value = at_path(runtime, value, path);
  }
  return runtime.text(join(runtime, values, bound.has(0) ? str(runtime, bound[0]) : Text()));
}

/// `values` by their keys, in a stable order.
std::vector<Value> sorted(Runtime& runtime, std::vector<Value> values, std::vector<Value> keys, bool reverse) {
  std::vector<std::size_t> order(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return reverse ? less(runtime, keys[b], keys[a]) : less(runtime, keys[a], keys[b]);
  });
  std::vector<Value> out;
  out.reserve(values.size());
  for (const std::size_t i : order) out.push_back(std::move(values[i]));
  return out;
}

Value sort(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "sort", given, {"reverse", "case_sensitive", "attribute"});
  std::vector<std::vector<Value>> paths;
  if (const auto* names = bound[2].as<String>()) {
    for (const Value& name : split(runtime, plain_text(runtime, *names), runtime.text(","),
                                   std::numeric_limits<std::size_t>::max(), Side::left))
      paths.push_back(attribute_path(runtime, name));
  } else {
    paths.push_back(attribute_path(runtime, bound[2]));
  }
  auto values = collect(runtime, object);
  std::vector<Value> keys;
  for (const Value& value : values) {
    std::vector<Value> key;
    for (const auto& path : paths) {
      Value part = at_path(runtime, value, path);
      key.push_back(bound.flag(1) ? part : without_case(runtime, part));
    }
    keys.push_back(runtime.list(std::move(key)));
  }
  return runtime.list(sorted(runtime, std::move(values), std::move(keys), bound.flag(0)));
}

Value dictsort(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "dictsort", given, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? bound.text(1).bytes() : "key";
  if (by != "key" && by != "value")
    runtime.wrong("\"dictsort\": expected \"key\" or \"value\", found " + in_quotes(by));
  const auto* dict = object.as<Dict>();
  if (dict == nullptr) refuse(runtime, "dictsort", object);
  std::vector<Value> values, keys;
  for (const auto& [key, value] : dict->pairs->pairs) {
    values.push_back(runtime.tuple({key, value}));
    const Value& judged = by == "key" ? key : value;
    keys.push_back(bound.flag(0) ? judged : without_case(runtime, judged));
  }
  return runtime.list(sorted(runtime, std::move(values), std::move(keys), bound.flag(2)));
}

template <bool largest>
Value extreme(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, largest ? "max" : "min", given, {"case_sensitive", "attribute"});
  const auto path = attribute_path(runtime, bound[1]);
  std::optional<Value> best, best_key;
  for (const Value& value : collect(runtime, object)) {
    Value key = at_path(runtime, value, path);
    if (!bound.flag(0)) key = without_case(runtime, key);
    if (best && !(largest ? less(runtime, *best_key, key) : less(runtime, key, *best_key))) continue;
    best = value;
    best_key = std::move(key);
  }
  return best ? *best : Runtime::undefined("there is no item: the sequence is empty");
}

Value sum(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "sum", given, {"attribute", "start"});
  Value out = bound.get(1, std::int64_t{0});
  if (out.is<String>()) runtime.wrong("\"sum\" adds no strings");
  const auto path = attribute_path(runtime, bound[0]);
  for (const Value& value : collect(runtime, object))
    out = binary(runtime, Binary::Operator::add, out, at_path(runtime, value, path));
  return out;
}

// Anything.

Value default_filter(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "default", given, {"default_value", "boolean"});
  const bool missing = object.is<Undefined>() || (bound.flag(1) && !truth(object));
  return missing ? bound.get(0, runtime.text("")) : object;
}

Value attr(Runtime& runtime, const Value& object, const Given& given) {
  const Bound bound(runtime, "attr", given, {"name"}, 1);
  if (object.is<Undefined>()) refuse(runtime, "attr", object);
  const std::string& name = bound.text(0).bytes();
  const auto out = type_attribute(runtime, object, name);
  return out ? *out : Runtime::undefined("there is no attribute " + in_quotes(name));
}

constexpr std::pair<std::string_view, Native> filters[] = {
    {"abs", absolute},
    {"attr", attr},
    {"batch", batch},
    {"capitalize", case_filter<capitalize>},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"first", first},
    {"float", real},
    {"format", format_filter},
    {"indent", indent},
    {"int", integer},
    {"items", items_filter},
    {"join", join_filter},
    {"last", last},
    {"length", length_filter},
    {"list", list},
    {"lower", case_filter<lower>},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select<Keep::failing, Of::items>},
    {"rejectattr", select<Keep::failing, Of::attributes>},
    {"replace", replace_filter},
    {"reverse", reverse},
    {"round", round_filter},
    {"safe", safe},
    {"select", select<Keep::passing, Of::items>},
    {"selectattr", select<Keep::passing, Of::attributes>},
    {"sort", sort},
    {"string", string_filter},
    {"sum", sum},
    {"title", case_filter<title_words>},
    {"tojson", tojson},
    {"trim", trim},
    {"unique", unique},
    {"upper", case_filter<upper>},
    {"wordcount", wordcount},
};

constexpr std::string_view others[] = {"center", "filesizeformat", "forceescape", "groupby",  "pprint",
                                       "random", "slice",          "striptags",   "truncate", "urlencode",
                                       "urlize", "wordwrap",       "xmlattr"};

}  // namespace

Value call_filter(Runtime& runtime, std::string_view name, const Value& object, const Given& given) {
  for (const auto& [known, filter] : filters)
    if (known == name) return filter(runtime, object, given);
  if (std::find(std::begin(others), std::end(others), name) != std::end(others))
    runtime.unsupported("the filter " + in_quotes(name));
  runtime.wrong("expected a filter that Jinja knows, found " + in_quotes(name));
}

bool is_filter(std::string_view name) {
  return std::any_of(std::begin(filters), std::end(filters),
                     [&](const auto& filter) { return filter.first == name; }) ||
         std::find(std::begin(others), std::end(others), name) != std::end(others);
}

}  // namespace pith::text::jinja
