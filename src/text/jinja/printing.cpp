// SPDX-License-Identifier: MIT
#include "text/jinja/printing.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "text/jinja/operators.hpp"
#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

void append_hex(std::string& out, char32_t code, int digits) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += "0123456789abcdef"[code >> shift & 15];
}

std::string quoted(const std::string& text) {
  const bool single = text.find('\'') == text.npos || text.find('"') != text.npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (std::string_view rest = text; !rest.empty();) {
    const Character c = first_character(rest);
    const std::string_view bytes = rest.substr(0, c.bytes);
    rest.remove_prefix(c.bytes);
    if (bytes[0] == quote || bytes[0] == '\\') {
      out += '\\';
      out += bytes;
    } else if (bytes[0] == '\n') {
      out += "\\n";
    } else if (bytes[0] == '\r') {
      out += "\\r";
    } else if (bytes[0] == '\t') {
      out += "\\t";
    } else if (is_printable(c.code)) {
      out += bytes;
    } else if (c.code < 0x100) {
      out += "\\x";
      append_hex(out, c.code, 2);
    } else if (c.code < 0x10000) {
      out += "\\u";
      append_hex(out, c.code, 4);
    } else {
      out += "\\U";
      append_hex(out, c.code, 8);
    }
  }
  return out += quote;
}

std::string json_quoted(const std::string& text, bool ensure_ascii) {
  std::string out = "\"";
  for (std::string_view rest = text; !rest.empty();) {
    const Character c = first_character(rest);
    const std::string_view bytes = rest.substr(0, c.bytes);
    rest.remove_prefix(c.bytes);
    constexpr std::string_view escaped = "\"\\\n\r\t\f\b", letters = "\"\\nrtfb";
    if (const auto i = escaped.find(bytes[0]); i != escaped.npos) {
      out += '\\';
      out += letters[i];
    } else if (c.code < 0x20 || (ensure_ascii && c.code >= 0x7f && c.code < 0x10000)) {
      out += "\\u";
      append_hex(out, c.code, 4);
    } else if (ensure_ascii && c.code >= 0x10000) {
      out += "\\u";
      append_hex(out, 0xd800 + ((c.code - 0x10000) >> 10), 4);
      out += "\\u";
      append_hex(out, 0xdc00 + ((c.code - 0x10000) & 0x3ff), 4);
    } else {
      out += bytes;
    }
  }
  return out += '"';
}

/// Writes values, and counts what it writes as it goes: a small value may hold the same large one many times.
class Writer {
 public:
  explicit Writer(Runtime& runtime) : runtime_(runtime) {}

  Text take() { return std::move(out_); }

  void repr(const Value& value) {
    runtime_.work();
    if (const auto* string = value.as<String>()) {
      if (string->markup) runtime_.unsupported("the repr of text marked safe");
      put(quoted(string->bytes()), string->text->origin());
    } else if (value.is<Undefined>()) {
      put("Undefined");
    } else if (const auto* list = value.as<List>()) {
      sequence("[", list->items->values, "]");
    } else if (const auto* tuple = value.as<Tuple>()) {
      sequence("(", tuple->items->values, tuple->items->values.size() == 1 ? ",)" : ")");
    } else if (const auto* dict = value.as<Dict>()) {
      put("{");
      bool first = true;
      for (const auto& [key, element] : dict->pairs->pairs) {
        if (!std::exchange(first, false)) put(", ");
        repr(key);
        put(": ");
        repr(element);
      }
      put("}");
    } else if (const auto* view = value.as<View>()) {
      put(view->of == View::Of::keys ? "dict_keys(" : view->of == View::Of::values ? "dict_values(" : "dict_items(");
      sequence("[", collect(runtime_, value), "]");
      put(")");
    } else if (const auto* numbers = value.as<Numbers>()) {
      put("range(" + std::to_string(numbers->start) + ", " + std::to_string(numbers->stop));
      put(numbers->step == 1 ? ")" : ", " + std::to_string(numbers->step) + ")");
    } else {
      put(scalar(value));
    }
  }

  void json(const Value& value, const JsonStyle& style, std::size_t level) {
    runtime_.work();
    if (const auto* string = value.as<String>()) {
      put(json_quoted(string->bytes(), style.ensure_ascii), string->text->origin());
    } else if (const Items* items = items_of(value)) {
      if (items->values.empty()) return put("[]");
      put("[");
      bool first = true;
      for (const Value& element : items->values) {
        if (!std::exchange(first, false)) put(style.item_separator);
        line(style, level + 1);
        json(element, style, level + 1);
      }
      line(style, level);
      put("]");
    } else if (const auto* dict = value.as<Dict>()) {
      object(dict->pairs->pairs, style, level);
    } else if (value.is<None>()) {
      put("null");
    } else if (const auto* flag = value.as<bool>()) {
      put(*flag ? "true" : "false");
    } else if (const auto* integer = value.as<std::int64_t>()) {
      put(std::to_string(*integer));
    } else if (const auto* real = value.as<double>()) {
      put(json_number(*real));
    } else {
      refuse(runtime_, "tojson", value);
    }
  }

 private:
  void put(std::string_view bytes, Origin origin = Origin::of_template) {
    runtime_.check_text(out_.size() + bytes.size());
    out_.append(bytes, origin);
  }
  void put(const Text& text) {
    runtime_.check_text(out_.size() + text.size());
    out_.append(text);
  }

  void sequence(std::string_view open, const std::vector<Value>& values, std::string_view close) {
    put(open);
    bool first = true;
    for (const Value& value : values) {
      if (!std::exchange(first, false)) put(", ");
      repr(value);
    }
    put(close);
  }

  std::string scalar(const Value& value) {
    if (value.is<None>()) return "None";
    if (const auto* flag = value.as<bool>()) return *flag ? "True" : "False";
    if (const auto* integer = value.as<std::int64_t>()) return std::to_string(*integer);
    if (const auto* real = value.as<double>()) return jinja::repr(*real);
    runtime_.unsupported("the text of a " + std::string(type_name(value)));
  }

  static std::string json_number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return jinja::repr(value);
  }

  void line(const JsonStyle& style, std::size_t level) {
    if (!style.indent) return;
    put("\n");
    for (std::size_t i = 0; i < level; ++i) put(*style.indent);
  }

  void object(std::vector<std::pair<Value, Value>> pairs, const JsonStyle& style, std::size_t level) {
    if (pairs.empty()) return put("{}");
    if (style.sort_keys)
      std::stable_sort(pairs.begin(), pairs.end(),
                       [&](const auto& a, const auto& b) { return less(runtime_, a.first, b.first); });
    put("{");
    bool first = true;
    for (const auto& [key, value] : pairs) {
      if (!std::exchange(first, false)) put(style.item_separator);
      line(style, level + 1);
      json_key(key, style);
      put(style.key_separator);
      json(value, style, level + 1);
    }
    line(style, level);
    put("}");
  }

  void json_key(const Value& key, const JsonStyle& style) {
    if (key.is<String>() || key.is<None>() || key.is<bool>() || key.is<std::int64_t>() || key.is<double>()) {
      if (key.is<String>()) return json(key, style, 0);
      put("\"");
      json(key, style, 0);
      put("\"");
    } else {
      runtime_.wrong("expected keys that JSON can have, found a " + std::string(type_name(key)));
    }
  }

  Runtime& runtime_;
  Text out_;
};

}  // namespace

std::string repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // The shortest digits that read back as this number: "-d.ddde+xx".
  std::array<char, 64> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
  const auto e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  std::string digits, out;
  for (const char c : text.substr(0, e)) {
    if (c == '-') out = "-";
    if (c >= '0' && c <= '9') digits += c;
  }
  const auto n = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out += '.' + digits.substr(1);
    out += exponent < 0 ? "e-" : "e+";
    const int size = std::abs(exponent);
    return out + (size < 10 ? "0" : "") + std::to_string(size);
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (n <= exponent + 1) return out + digits + std::string(static_cast<std::size_t>(exponent + 1 - n), '0') + ".0";
  const auto whole = static_cast<std::size_t>(exponent + 1);
  return out + digits.substr(0, whole) + '.' + digits.substr(whole);
}

Text str(Runtime& runtime, const Value& value) {
  if (const auto* string = value.as<String>()) return *string->text;
  if (value.is<Undefined>()) return {};
  return repr(runtime, value);
}

Text repr(Runtime& runtime, const Value& value) {
  Writer writer(runtime);
  writer.repr(value);
  return writer.take();
}

Text to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  Writer writer(runtime);
  writer.json(value, style, 0);
  return writer.take();
}

}  // namespace pith::text::jinja
