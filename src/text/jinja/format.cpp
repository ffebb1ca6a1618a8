// SPDX-License-Identifier: MIT
#include "text/jinja/format.hpp"

#include <algorithm>
#include <charconv>
#include <string>

#include "printable.hpp"
#include "text/jinja/operators.hpp"
#include "text/jinja/printing.hpp"

namespace pith::text::jinja {

namespace {

/// Grows a text within the runtime's bounds.
class Builder {
 public:
  explicit Builder(Runtime& runtime) : runtime_(runtime) {}
  void add(const Text& text) { add(text, {0, text.size()}); }
  void add(const Text& text, Range part) {
    runtime_.check_text(out_.size() + part.size());
    out_.append(text, part);
  }
  Value take() { return runtime_.text(std::move(out_)); }

 private:
  Runtime& runtime_;
  Text out_;
};

}  // namespace

Value percent_format(Runtime& runtime, const Text& format, const Value& values) {
  const std::string& bytes = format.bytes();
  const auto* tuple = values.as<Tuple>();
  const std::size_t count = tuple != nullptr ? tuple->items->values.size() : 1;
  std::size_t used = 0;
  bool by_name = false;
  Builder out(runtime);
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t sign = std::min(bytes.find('%', at), bytes.size());
    out.add(format, {at, sign});
    at = sign + 1;
    if (sign == bytes.size()) break;
    if (at == bytes.size()) runtime.wrong("a format ends after \"%\"");
    const Value* value = nullptr;
    if (bytes[at] == '(') {
      const auto close = bytes.find(')', at);
      const auto* dict = values.as<Dict>();
      if (close == bytes.npos || dict == nullptr) runtime.wrong("\"%(name)s\": expected a dict of values");
      const std::string name = bytes.substr(at + 1, close - at - 1);
      value = find(*dict->pairs, name);
      if (value == nullptr) runtime.wrong("a format asks for " + in_quotes(name) + ", which is not given");
      by_name = true;
      at = close + 1;
      if (at == bytes.size()) runtime.wrong("a format ends within \"%(name)s\"");
    }
    const char kind = bytes[at++];
    if (kind == '%') {
      out.add(format, {at - 1, at});
      continue;
    }
    if (kind != 's' && kind != 'd' && kind != 'i' && kind != 'r')
      runtime.unsupported("the format " + in_quotes(std::string("%") + kind));
    if (value == nullptr) {
      if (used == count) runtime.wrong("a format asks for more values than are given");
      value = tuple != nullptr ? &tuple->items->values[used] : &values;
      ++used;
    }
    if (kind == 's') {
      if (value->is<String>()) plain_text(runtime, *value->as<String>());
      out.add(str(runtime, *value));
    } else if (kind == 'r') {
      out.add(repr(runtime, *value));
    } else {
      if (value->is<double>()) runtime.unsupported("the format \"%d\" of a float");
      const auto integer = integer_of(*value);
      if (!integer) refuse(runtime, "the format \"%d\"", *value);
      out.add(Text(std::to_string(*integer)));
    }
  }
  // Python lets one value go unused where it could be a mapping: where it has items.
  const bool has_items = values.is<Dict>() || values.is<List>() || values.is<Numbers>() || values.is<Undefined>();
  if (used < count && !by_name && !has_items) runtime.wrong("a format uses fewer values than are given");
  return out.take();
}

Value brace_format(Runtime& runtime, const Text& format, const Given& given) {
  const std::string& bytes = format.bytes();
  std::size_t next = 0;
  enum class Numbering { unknown, automatic, manual } numbering = Numbering::unknown;
  Builder out(runtime);
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t brace = std::min(bytes.find_first_of("{}", at), bytes.size());
    out.add(format, {at, brace});
    if (brace == bytes.size()) break;
    if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
      out.add(format, {brace, brace + 1});
      at = brace + 2;
      continue;
    }
    const auto close = bytes.find('}', brace);
    if (bytes[brace] == '}' || close == bytes.npos) runtime.wrong("a format has a single brace");
    std::string field = bytes.substr(brace + 1, close - brace - 1);
    at = close + 1;
    if (field.find_first_of("!:.[{") != field.npos) runtime.unsupported("the format " + in_quotes("{" + field + "}"));

    const Value* value = nullptr;
    const bool is_number = !field.empty() && field.find_first_not_of("0123456789") == field.npos;
    if (field.empty() || is_number) {
      const auto now = field.empty() ? Numbering::automatic : Numbering::manual;
      if (numbering != Numbering::unknown && numbering != now)
        runtime.wrong("a format numbers some of its fields and not others");
      numbering = now;
      std::size_t index = next;
      if (field.empty()) {
        ++next;
      } else if (std::from_chars(field.data(), field.data() + field.size(), index).ec != std::errc{}) {
        index = given.positional.size();
      }
      if (index < given.positional.size()) value = &given.positional[index];
    } else {
      for (const auto& [name, named] : given.named)
        if (name == field) value = &named;
    }
    if (value == nullptr) runtime.wrong("a format asks for " + in_quotes("{" + field + "}") + ", which is not given");
    out.add(str(runtime, *value));
  }
  return out.take();
}

}  // namespace pith::text::jinja
