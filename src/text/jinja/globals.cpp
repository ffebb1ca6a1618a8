// SPDX-License-Identifier: MIT
#include "text/jinja/globals.hpp"

#include <algorithm>
#include <ctime>
#include <string>

#include "printable.hpp"
#include "text/jinja/arguments.hpp"
#include "text/jinja/operators.hpp"
#include "text/jinja/printing.hpp"

namespace pith::text::jinja {

namespace {

Value range(Runtime& runtime, const Value&, const Given& given) {
  const Bound bound(runtime, "range", given, {"", " ", "  "}, 1);
  Numbers out;
  if (bound.has(1)) out.start = bound.integer(0, 0);
  out.stop = bound.integer(bound.has(1) ? 1 : 0, 0);
  out.step = bound.integer(2, 1);
  if (out.step == 0) runtime.wrong("\"range\": expected steps that are not zero");
  constexpr std::int64_t furthest = std::int64_t{1} << 53;
  if (std::max({std::abs(out.start), std::abs(out.stop), std::abs(out.step)}) > furthest)
    runtime.unsupported("a range that far");
  const std::int64_t way = out.step > 0 ? out.stop - out.start : out.start - out.stop;
  if (way > 0) out.count = static_cast<std::size_t>((way - 1) / std::abs(out.step) + 1);
  constexpr std::size_t most = 100'000;  // as Jinja's sandbox
  if (out.count > most) runtime.unsupported("a range of more than " + std::to_string(most) + " numbers");
  return out;
}

/// What dict(...) takes: a dict or pairs, and arguments by name.
std::vector<std::pair<Value, Value>> pairs_of(Runtime& runtime, std::string_view function, const Given& given) {
  if (given.positional.size() > 1)
    runtime.wrong(in_quotes(function) + ": expected at most one argument by place, found " +
                  std::to_string(given.positional.size()));
  std::vector<std::pair<Value, Value>> out;
  if (!given.positional.empty()) {
    const Value& from = given.positional[0];
    if (const auto* dict = from.as<Dict>()) {
      out = dict->pairs->pairs;
    } else {
      for (const Value& pair : collect(runtime, from)) {
        const auto both = collect(runtime, pair);
        if (both.size() != 2) runtime.wrong(in_quotes(function) + ": expected pairs of key and value");
        out.emplace_back(both[0], both[1]);
      }
    }
  }
  for (const auto& [name, value] : given.named) out.emplace_back(runtime.text(name), value);
  return out;
}

Value dict(Runtime& runtime, const Value&, const Given& given) {
  return dict_of(runtime, pairs_of(runtime, "dict", given));
}

Value make_namespace(Runtime& runtime, const Value&, const Given& given) {
  const Value merged = dict_of(runtime, pairs_of(runtime, "namespace", given));
  std::vector<std::pair<std::string, Value>> values;
  for (const auto& [key, value] : merged.as<Dict>()->pairs->pairs) {
    const auto* name = key.as<String>();
    if (name == nullptr) runtime.unsupported("a namespace with names that are no strings");
    if (name->bytes().starts_with('_'))
      runtime.wrong("a namespace stores no name that begins with an underscore, as " + in_quotes(name->bytes()));
    values.emplace_back(name->bytes(), value);
  }
  return runtime.new_namespace(std::move(values));
}

Value raise_exception(Runtime& runtime, const Value&, const Given& given) {
  const Bound bound(runtime, "raise_exception", given, {"message"}, 1);
  runtime.fail(ErrorCode::argument,
               "the template refuses this conversation: " + printable(str(runtime, bound[0]).bytes()));
}

Value strftime_now(Runtime& runtime, const Value&, const Given& given) {
  const Bound bound(runtime, "strftime_now", given, {"format"}, 1);
  const std::string& format = bound.text(0).bytes();
  // Without zones and fractions of a second, which a std::tm does not have.
  constexpr std::string_view known = "aAbBcdeFHIjmMpSTuUVwWxXyY%";
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] == '\0') runtime.unsupported("a date format with a zero byte");
    if (format[i] != '%') continue;
    ++i;
    if (i < format.size() && format[i] == '-') ++i;
    if (i >= format.size() || known.find(format[i]) == known.npos)
      runtime.unsupported("the date format " + in_quotes(format.substr(0, i + 1)));
  }
  std::string out(format.size() * 32 + 64, '\0');
  runtime.check_text(out.size());
  // A mark before it tells an empty result from one that does not fit.
  const std::size_t size = std::strftime(out.data(), out.size(), (" " + format).c_str(), &runtime.now());
  if (size == 0) runtime.unsupported("a date that long");
  return runtime.text(out.substr(1, size - 1));
}

template <char first>
Value missing(Runtime& runtime, const Value&, const Given&) {
  runtime.unsupported(first == 'l' ? "\"lipsum\"" : first == 'c' ? "\"cycler\"" : "\"joiner\"");
}

constexpr std::pair<std::string_view, Native> globals[] = {
    {"range", range},
    {"dict", dict},
    {"namespace", make_namespace},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
    {"lipsum", missing<'l'>},
    {"cycler", missing<'c'>},
    {"joiner", missing<'j'>},
};

}  // namespace

std::optional<Value> global(std::string_view name) {
  for (const auto& [known, native] : globals)
    if (known == name) return Function{known, native, nullptr};
  return {};
}

}  // namespace pith::text::jinja
