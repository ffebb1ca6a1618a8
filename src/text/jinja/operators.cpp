// SPDX-License-Identifier: MIT
#include "text/jinja/operators.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "printable.hpp"
#include "text/jinja/characters.hpp"
#include "text/jinja/format.hpp"
#include "text/jinja/methods.hpp"
#include "text/jinja/printing.hpp"
#include "text/unicode.hpp"

namespace pith::text::jinja {

namespace {

using Operator = Binary::Operator;

std::string_view name(Operator op) {
  switch (op) {
    case Operator::add:
      return "+";
    case Operator::subtract:
      return "-";
    case Operator::multiply:
      return "*";
    case Operator::divide:
      return "/";
    case Operator::floor_divide:
      return "//";
    case Operator::modulo:
      return "%";
    case Operator::power:
      return "**";
  }
  return "?";
}

[[noreturn]] void too_large(Runtime& runtime) { runtime.unsupported("an integer beyond 64 bits"); }

bool same(const Pairs& a, const Pairs& b, Runtime& runtime) {
  if (a.pairs.size() != b.pairs.size()) return false;
  for (const auto& own : a.pairs) {
    const auto other = std::find_if(b.pairs.begin(), b.pairs.end(),
                                    [&](const auto& pair) { return equal(runtime, own.first, pair.first); });
    if (other == b.pairs.end() || !equal(runtime, own.second, other->second)) return false;
  }
  return true;
}

bool same(const Items& a, const Items& b, Runtime& runtime) {
  return a.values.size() == b.values.size() &&
         std::equal(a.values.begin(), a.values.end(), b.values.begin(),
                    [&](const Value& x, const Value& y) { return equal(runtime, x, y); });
}

std::int64_t integer_power(Runtime& runtime, std::int64_t base, std::int64_t exponent) {
  std::int64_t out = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(out, base, &out)) too_large(runtime);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) too_large(runtime);
  }
  return out;
}

Value integers(Runtime& runtime, Operator op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  bool overflow = false;
  switch (op) {
    case Operator::add:
      overflow = __builtin_add_overflow(a, b, &out);
      break;
    case Operator::subtract:
      overflow = __builtin_sub_overflow(a, b, &out);
      break;
    case Operator::multiply:
      overflow = __builtin_mul_overflow(a, b, &out);
      break;
    case Operator::divide: {
      if (b == 0) runtime.wrong("division by zero");
      // Python divides integers exactly before it rounds.
      constexpr std::int64_t exact = std::int64_t{1} << 53;
      if (a > exact || a < -exact || b > exact || b < -exact) too_large(runtime);
      return static_cast<double>(a) / static_cast<double>(b);
    }
    case Operator::floor_divide:
    case Operator::modulo: {
      if (b == 0) runtime.wrong("division by zero");
      if (b == -1) {
        if (op == Operator::modulo) return std::int64_t{0};
        overflow = __builtin_sub_overflow(std::int64_t{0}, a, &out);
        break;
      }
      const bool rounds = a % b != 0 && (a < 0) != (b < 0);
      return op == Operator::modulo ? a % b + (rounds ? b : 0) : a / b - (rounds ? 1 : 0);
    }
    case Operator::power:
      if (b >= 0) return integer_power(runtime, a, b);
      if (a == 0) runtime.wrong("zero to a negative power");
      return std::pow(static_cast<double>(a), static_cast<double>(b));
  }
  if (overflow) too_large(runtime);
  return out;
}

Value reals(Runtime& runtime, Operator op, double a, double b) {
  switch (op) {
    case Operator::add:
      return a + b;
    case Operator::subtract:
      return a - b;
    case Operator::multiply:
      return a * b;
    case Operator::divide:
      if (b == 0) runtime.wrong("division by zero");
      return a / b;
    case Operator::floor_divide:
    case Operator::modulo: {
      if (b == 0) runtime.wrong("division by zero");
      double rest = std::fmod(a, b);
      double quotient = (a - rest) / b;
      if (rest != 0) {
        if ((b < 0) != (rest < 0)) {
          rest += b;
          quotient -= 1;
        }
      } else {
        rest = std::copysign(0.0, b);
      }
      if (op == Operator::modulo) return rest;
      if (quotient == 0) return std::copysign(0.0, a / b);
      const double floor = std::floor(quotient);
      return quotient - floor > 0.5 ? floor + 1 : floor;
    }
    case Operator::power: {
      if (a == 0 && b < 0) runtime.wrong("zero to a negative power");
      if (a < 0 && b != std::floor(b)) runtime.unsupported("a complex number");
      const double out = std::pow(a, b);
      if (std::isinf(out) && std::isfinite(a) && std::isfinite(b)) runtime.wrong("the result is too large");
      return out;
    }
  }
  return None{};
}

std::size_t repetitions(Runtime& runtime, std::int64_t times, std::size_t size) {
  if (times <= 0 || size == 0) return 0;
  const auto n = static_cast<std::size_t>(times);
  if (n > std::numeric_limits<std::size_t>::max() / 64 / size) too_large(runtime);
  return n;
}

/// `value` * times, where it is a string or a sequence.
std::optional<Value> repeated(Runtime& runtime, const Value& value, std::int64_t times) {
  if (const auto* string = value.as<String>()) {
    const Text& text = plain_text(runtime, *string);
    const std::size_t n = repetitions(runtime, times, text.size());
    runtime.check_text(n * text.size());
    Text out;
    for (std::size_t i = 0; i < n; ++i) out.append(text);
    return runtime.text(std::move(out));
  }
  if (const Items* items = items_of(value)) {
    const std::size_t n = repetitions(runtime, times, items->values.size());
    runtime.allocate(n * items->values.size() * sizeof(Value));
    runtime.work(n * items->values.size());
    std::vector<Value> out;
    for (std::size_t i = 0; i < n; ++i) out.insert(out.end(), items->values.begin(), items->values.end());
    return value.is<List>() ? runtime.list(std::move(out)) : runtime.tuple(std::move(out));
  }
  return {};
}

std::optional<Value> joined(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is<String>() && b.is<String>()) {
    const Text& left = plain_text(runtime, *a.as<String>());
    const Text& right = plain_text(runtime, *b.as<String>());
    runtime.check_text(left.size() + right.size());
    Text out = left;
    out.append(right);
    return runtime.text(std::move(out));
  }
  if ((a.is<List>() && b.is<List>()) || (a.is<Tuple>() && b.is<Tuple>())) {
    std::vector<Value> out = items_of(a)->values;
    const auto& more = items_of(b)->values;
    runtime.work(out.size() + more.size());
    out.insert(out.end(), more.begin(), more.end());
    return a.is<List>() ? runtime.list(std::move(out)) : runtime.tuple(std::move(out));
  }
  return {};
}

bool less_items(Runtime& runtime, const Items& a, const Items& b) {
  const std::size_t n = std::min(a.values.size(), b.values.size());
  for (std::size_t i = 0; i < n; ++i)
    if (!equal(runtime, a.values[i], b.values[i])) return less(runtime, a.values[i], b.values[i]);
  return a.values.size() < b.values.size();
}

/// An index counted from the end where it is negative; nothing where it is out of range.
std::optional<std::size_t> place(std::int64_t index, std::size_t size) {
  const auto n = static_cast<std::int64_t>(size);
  if (index < 0) index += n;
  if (index < 0 || index >= n) return {};
  return static_cast<std::size_t>(index);
}

/// The object's own item, without a look at its attributes.
std::optional<Value> own_item(Runtime& runtime, const Value& object, const Value& key) {
  if (const auto* dict = object.as<Dict>()) {
    if (key.is<List>() || key.is<Dict>()) return {};  // not hashable: a TypeError, which Jinja passes over
    if (const auto* name = key.as<String>()) {
      runtime.work(dict->pairs->pairs.size() / 16);
      const Value* found = find(*dict->pairs, name->bytes());
      return found != nullptr ? std::optional(*found) : std::nullopt;
    }
    for (const auto& [name, value] : dict->pairs->pairs)
      if (equal(runtime, name, key)) return value;
    return {};
  }
  const auto index = integer_of(key);
  if (!index) return {};
  if (const Items* items = items_of(object)) {
    const auto at = place(*index, items->values.size());
    return at ? std::optional(items->values[*at]) : std::nullopt;
  }
  if (const auto* string = object.as<String>()) {
    if (string->markup) runtime.unsupported("a part of text marked safe");
    const auto starts = character_starts(string->bytes());
    runtime.work(starts.size() / 64);
    const auto at = place(*index, starts.size() - 1);
    if (!at) return {};
    return runtime.text(string->text->slice({starts[*at], starts[*at + 1]}));
  }
  if (const auto* numbers = object.as<Numbers>()) {
    const auto at = place(*index, numbers->count);
    return at ? std::optional(Value(numbers->at(*at))) : std::nullopt;
  }
  return {};
}

void require_defined(Runtime& runtime, const Value& object) {
  if (const auto* undefined = object.as<Undefined>()) runtime.wrong(*undefined->why);
}

std::string of_type(const Value& object) { return "a value of type " + std::string(type_name(object)); }

}  // namespace

void refuse(Runtime& runtime, std::string_view operation, const Value& value) {
  require_defined(runtime, value);
  runtime.wrong(std::string(operation) + " cannot be done with " + of_type(value));
}

const Text& plain_text(Runtime& runtime, const String& string) {
  if (string.markup) runtime.unsupported("an operation on text marked safe");
  return *string.text;
}

bool truth(const Value& value) {
  if (const auto* flag = value.as<bool>()) return *flag;
  if (const auto* integer = value.as<std::int64_t>()) return *integer != 0;
  if (const auto* real = value.as<double>()) return *real != 0;
  if (const auto* string = value.as<String>()) return string->text->size() != 0;
  if (const Items* items = items_of(value)) return !items->values.empty();
  if (const auto* dict = value.as<Dict>()) return !dict->pairs->pairs.empty();
  if (const auto* view = value.as<View>()) return !view->pairs->pairs.empty();
  if (const auto* numbers = value.as<Numbers>()) return numbers->count != 0;
  return !value.is<Undefined>() && !value.is<None>();
}

bool equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.work();
  if (const auto* left = a.as<String>()) {
    const auto* right = b.as<String>();
    if (right == nullptr || left->text->size() != right->text->size()) return false;
    runtime.work(left->text->size() / 256);
    return left->bytes() == right->bytes();
  }
  if (const auto left = integer_of(a)) {
    if (const auto right = integer_of(b)) return *left == *right;
    const auto* real = b.as<double>();
    return real != nullptr && static_cast<double>(*left) == *real && *real < 0x1p63 &&
           static_cast<std::int64_t>(*real) == *left;
  }
  if (const auto* left = a.as<double>()) {
    if (integer_of(b)) return equal(runtime, b, a);
    const auto* right = b.as<double>();
    return right != nullptr && *left == *right;
  }
  if (a.is<Dict>() && b.is<Dict>()) return same(*a.as<Dict>()->pairs, *b.as<Dict>()->pairs, runtime);
  if ((a.is<List>() && b.is<List>()) || (a.is<Tuple>() && b.is<Tuple>()))
    return same(*items_of(a), *items_of(b), runtime);
  if (a.index() != b.index()) return false;
  if (a.is<None>() || a.is<Undefined>()) return true;
  if (a.is<Namespace>()) return a.as<Namespace>()->data == b.as<Namespace>()->data;
  if (a.is<RoutineValue>()) return a.as<RoutineValue>()->routine == b.as<RoutineValue>()->routine;
  runtime.unsupported("comparing two values of type " + std::string(type_name(a)));
}

bool less(Runtime& runtime, const Value& a, const Value& b) {
  runtime.work();
  if (a.is<String>() && b.is<String>()) {
    runtime.work(std::min(a.as<String>()->text->size(), b.as<String>()->text->size()) / 256);
    return a.as<String>()->bytes() < b.as<String>()->bytes();  // the order of UTF-8 is that of the characters
  }
  if (integer_of(a) && integer_of(b)) return *integer_of(a) < *integer_of(b);
  if (number_of(a) && number_of(b)) return *number_of(a) < *number_of(b);
  if ((a.is<List>() && b.is<List>()) || (a.is<Tuple>() && b.is<Tuple>()))
    return less_items(runtime, *items_of(a), *items_of(b));
  require_defined(runtime, a);
  require_defined(runtime, b);
  if (a.is<View>() && b.is<View>()) runtime.unsupported("comparing dict views");
  runtime.wrong("values of types " + std::string(type_name(a)) + " and " + std::string(type_name(b)) +
                " have no order");
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (const auto* string = container.as<String>()) {
    const auto* part = item.as<String>();
    if (part == nullptr) refuse(runtime, "looking for it in a string", item);
    runtime.work((string->text->size() + part->text->size()) / 64);
    return find_text(string->bytes(), part->bytes()) != std::string::npos;
  }
  if (container.is<Dict>()) {
    require_key(runtime, item);
    return own_item(runtime, container, item).has_value();
  }
  if (container.is<Namespace>() || container.is<Loop>() || !is_iterable(container))
    refuse(runtime, "looking for something in it", container);
  const Stream next = iterate(runtime, container);
  while (const auto value = next())
    if (equal(runtime, *value, item)) return true;
  return false;
}

bool compare(Runtime& runtime, Comparison::Operator op, const Value& a, const Value& b) {
  using C = Comparison::Operator;
  switch (op) {
    case C::eq:
      return equal(runtime, a, b);
    case C::ne:
      return !equal(runtime, a, b);
    case C::lt:
      return less(runtime, a, b);
    case C::gt:
      return less(runtime, b, a);
    case C::le:
      return less(runtime, a, b) || equal(runtime, a, b);
    case C::ge:
      return less(runtime, b, a) || equal(runtime, a, b);
    case C::in:
      return contains(runtime, b, a);
    case C::not_in:
      return !contains(runtime, b, a);
  }
  return false;
}

Value binary(Runtime& runtime, Operator op, const Value& a, const Value& b) {
  require_defined(runtime, a);
  const auto left = integer_of(a), right = integer_of(b);
  if (left && right) return integers(runtime, op, *left, *right);
  if (number_of(a) && number_of(b)) return reals(runtime, op, *number_of(a), *number_of(b));
  if (op == Operator::modulo && a.is<String>()) return percent_format(runtime, plain_text(runtime, *a.as<String>()), b);
  require_defined(runtime, b);
  std::optional<Value> out;
  if (op == Operator::add) out = joined(runtime, a, b);
  if (op == Operator::multiply && right) out = repeated(runtime, a, *right);
  if (op == Operator::multiply && left) out = repeated(runtime, b, *left);
  if (out) return *out;
  if (op == Operator::subtract && a.is<View>() && b.is<View>()) runtime.unsupported("a difference of dict views");
  runtime.wrong("values of types " + std::string(type_name(a)) + " and " + std::string(type_name(b)) +
                " cannot be combined by " + in_quotes(name(op)));
}

Value negative(Runtime& runtime, const Value& value) {
  if (const auto* real = value.as<double>()) return -*real;
  const auto integer = integer_of(value);
  if (!integer) refuse(runtime, "a minus sign", value);
  return integers(runtime, Operator::subtract, 0, *integer);
}

Value positive(Runtime& runtime, const Value& value) {
  if (value.is<double>()) return value;
  const auto integer = integer_of(value);
  if (!integer) refuse(runtime, "a plus sign", value);
  return *integer;
}

bool is_iterable(const Value& value) {
  return value.is<Undefined>() || value.is<String>() || items_of(value) != nullptr || value.is<Dict>() ||
         value.is<View>() || value.is<Numbers>() || value.is<Iterator>() || value.is<Loop>();
}

Stream iterate(Runtime& runtime, const Value& value) {
  if (value.is<Undefined>()) return [] { return std::optional<Value>(); };
  if (items_of(value) != nullptr) {
    const auto items = value.is<List>() ? value.as<List>()->items : value.as<Tuple>()->items;
    return [&runtime, items, i = std::size_t{0}]() mutable -> std::optional<Value> {
      if (i == items->values.size()) return {};
      runtime.work();
      return items->values[i++];
    };
  }
  if (const auto* string = value.as<String>()) {
    if (string->markup) runtime.unsupported("a part of text marked safe");
    return [&runtime, text = string->text, at = std::size_t{0}]() mutable -> std::optional<Value> {
      if (at == text->size()) return {};
      runtime.work();
      const std::size_t begin = at;
      at += first_character(std::string_view(text->bytes()).substr(at)).bytes;
      return runtime.text(text->slice({begin, at}));
    };
  }
  if (value.is<Dict>() || value.is<View>()) {
    const auto pairs = value.is<Dict>() ? value.as<Dict>()->pairs : value.as<View>()->pairs;
    const auto of = value.is<Dict>() ? View::Of::keys : value.as<View>()->of;
    return [&runtime, pairs, of, i = std::size_t{0}]() mutable -> std::optional<Value> {
      if (i == pairs->pairs.size()) return {};
      runtime.work();
      const auto& [key, element] = pairs->pairs[i++];
      if (of == View::Of::keys) return key;
      if (of == View::Of::values) return element;
      return runtime.tuple({key, element});
    };
  }
  if (const auto* numbers = value.as<Numbers>()) {
    return [&runtime, numbers = *numbers, i = std::size_t{0}]() mutable -> std::optional<Value> {
      if (i == numbers.count) return {};
      runtime.work();
      return Value(numbers.at(i++));
    };
  }
  if (const auto* iterator = value.as<Iterator>()) {
    return [&runtime, next = iterator->next]() {
      runtime.work();
      return (*next)();
    };
  }
  if (value.is<Loop>()) runtime.unsupported("iterating over \"loop\"");
  refuse(runtime, "iterating over it", value);
}

std::vector<Value> collect(Runtime& runtime, const Value& iterable) {
  std::vector<Value> out;
  const Stream next = iterate(runtime, iterable);
  while (auto value = next()) {
    runtime.allocate(sizeof(Value));
    out.push_back(std::move(*value));
  }
  return out;
}

std::size_t length(Runtime& runtime, const Value& value) {
  if (value.is<Undefined>()) return 0;
  if (const auto* string = value.as<String>()) {
    runtime.work(string->text->size() / 64);
    return count_characters(string->bytes());
  }
  if (const Items* items = items_of(value)) return items->values.size();
  if (const auto* dict = value.as<Dict>()) return dict->pairs->pairs.size();
  if (const auto* view = value.as<View>()) return view->pairs->pairs.size();
  if (const auto* numbers = value.as<Numbers>()) return numbers->count;
  if (value.is<Loop>()) runtime.unsupported("the length of \"loop\"; it has a loop.length");
  refuse(runtime, "a length", value);
}

Value item(Runtime& runtime, const Value& object, const Value& key) {
  require_defined(runtime, object);
  if (auto own = own_item(runtime, object, key)) return *own;
  if (const auto* name = key.as<String>()) {
    if (auto out = type_attribute(runtime, object, name->bytes())) return *out;
    return Runtime::undefined(of_type(object) + " has no attribute " + in_quotes(name->bytes()));
  }
  return Runtime::undefined(of_type(object) + " has no element " + printable(repr(runtime, key).bytes()));
}

Value attribute(Runtime& runtime, const Value& object, std::string_view name) {
  require_defined(runtime, object);
  if (auto out = type_attribute(runtime, object, name)) return *out;
  if (const auto* dict = object.as<Dict>()) {
    runtime.work(dict->pairs->pairs.size() / 16);
    if (const Value* found = find(*dict->pairs, name)) return *found;
  }
  return Runtime::undefined(of_type(object) + " has no attribute " + in_quotes(name));
}

Value slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop, const Value& step) {
  require_defined(runtime, object);
  const auto bound = [&](const Value& value) -> std::optional<std::int64_t> {
    if (value.is<None>()) return {};
    const auto integer = integer_of(value);
    if (!integer) refuse(runtime, "a slice from or to it", value);
    return integer;
  };
  const auto* string = object.as<String>();
  const Items* items = items_of(object);
  if (string == nullptr && items == nullptr) {
    if (object.is<Numbers>()) runtime.unsupported("a slice of a range");
    refuse(runtime, "a slice", object);
  }

  std::vector<std::size_t> starts;
  if (string != nullptr) starts = character_starts(plain_text(runtime, *string).bytes());
  const auto n = static_cast<std::int64_t>(string != nullptr ? starts.size() - 1 : items->values.size());
  const std::int64_t by = bound(step).value_or(1);
  if (by == 0) runtime.wrong("a slice cannot have steps of zero");
  // Python's PySlice_AdjustIndices.
  const auto clamp = [&](std::optional<std::int64_t> at, std::int64_t absent) {
    if (!at) return absent;
    const std::int64_t low = by < 0 ? -1 : 0, high = by < 0 ? n - 1 : n;
    if (*at < 0) return *at < -n ? low : *at + n;
    return std::min(*at, high);
  };
  const std::int64_t from = clamp(bound(start), by < 0 ? n - 1 : 0), to = clamp(bound(stop), by < 0 ? -1 : n);

  if (string != nullptr && by == 1) {
    const auto begin = static_cast<std::size_t>(from), end = static_cast<std::size_t>(std::max(from, to));
    runtime.work(starts.size() / 64);
    return runtime.text(string->text->slice({starts[begin], starts[end]}));
  }
  Text text;
  std::vector<Value> values;
  for (std::int64_t i = from; by > 0 ? i < to : i > to;) {
    runtime.work();
    const auto at = static_cast<std::size_t>(i);
    if (string != nullptr) {
      text.append(*string->text, {starts[at], starts[at + 1]});
    } else {
      values.push_back(items->values[at]);
    }
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  if (string != nullptr) return runtime.text(std::move(text));
  return object.is<List>() ? runtime.list(std::move(values)) : runtime.tuple(std::move(values));
}

void require_key(Runtime& runtime, const Value& value) {
  if (value.is<List>() || value.is<Dict>() || value.is<View>()) refuse(runtime, "making a key", value);
  if (const auto* tuple = value.as<Tuple>())
    for (const Value& part : tuple->items->values) require_key(runtime, part);
}

Value dict_of(Runtime& runtime, std::vector<std::pair<Value, Value>> pairs) {
  std::vector<std::pair<Value, Value>> out;
  for (auto& own : pairs) {
    require_key(runtime, own.first);
    const auto same_key =
        std::find_if(out.begin(), out.end(), [&](const auto& pair) { return equal(runtime, pair.first, own.first); });
    if (same_key == out.end()) {
      out.push_back(std::move(own));
    } else {
      same_key->second = std::move(own.second);
    }
  }
  return runtime.dict(std::move(out));
}

}  // namespace pith::text::jinja
