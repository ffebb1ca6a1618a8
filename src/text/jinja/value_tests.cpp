// SPDX-License-Identifier: MIT
#include "text/jinja/value_tests.hpp"

#include <string>
#include <utility>

#include "printable.hpp"
#include "text/jinja/arguments.hpp"
#include "text/jinja/casing.hpp"
#include "text/jinja/filters.hpp"
#include "text/jinja/operators.hpp"
#include "text/jinja/printing.hpp"

namespace pith::text::jinja {

namespace {

using Check = bool (*)(Runtime&, const Value&, const Given&);

template <bool (*is)(const Value&)>
bool plain(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "a test", given, {});
  return is(value);
}

template <class... T>
bool any_of(const Value& value) {
  return (value.is<T>() || ...);
}

bool is_defined(const Value& value) { return !value.is<Undefined>(); }
bool is_true(const Value& value) { return value.is<bool>() && *value.as<bool>(); }
bool is_false(const Value& value) { return value.is<bool>() && !*value.as<bool>(); }
/// What has a length and items.
bool is_sequence(const Value& value) { return any_of<String, List, Tuple, Dict, Numbers, Undefined>(value); }

template <Comparison::Operator op>
bool compares(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "a test", given, {"other"}, 1);
  return compare(runtime, op, value, bound[0]);
}

std::int64_t remainder(Runtime& runtime, const Value& value, const Value& by) {
  if (!integer_of(value) || !integer_of(by)) {
    if (value.is<double>()) runtime.unsupported("this test of a float");
    refuse(runtime, "this test", integer_of(value) ? by : value);
  }
  return *binary(runtime, Binary::Operator::modulo, value, by).as<std::int64_t>();
}

bool is_odd(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "odd", given, {});
  return remainder(runtime, value, std::int64_t{2}) == 1;
}

bool is_even(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "even", given, {});
  return remainder(runtime, value, std::int64_t{2}) == 0;
}

bool is_divisible(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "divisibleby", given, {"num"}, 1);
  return remainder(runtime, value, bound[0]) == 0;
}

bool is_lower_case(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "lower", given, {});
  return all_lower(runtime, str(runtime, value).bytes());
}

bool is_upper_case(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "upper", given, {});
  return all_upper(runtime, str(runtime, value).bytes());
}

bool is_in(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "in", given, {"seq"}, 1);
  return contains(runtime, bound[0], value);
}

/// The same object: only for the values of which there is one.
bool is_same(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "sameas", given, {"other"}, 1);
  const Value& other = bound[0];
  if (any_of<None, bool>(value) || any_of<None, bool>(other))
    return value.index() == other.index() && equal(runtime, value, other);
  runtime.unsupported("\"sameas\" of anything but none, true and false");
}

bool names_filter(Runtime& runtime, const Value& value, const Given& given) {
  const Bound bound(runtime, "filter", given, {});
  return value.is<String>() && is_filter(value.as<String>()->bytes());
}

bool is_escaped(const Value& value) { return value.is<String>() && value.as<String>()->markup; }

using Op = Comparison::Operator;

constexpr std::pair<std::string_view, Check> checks[] = {
    {"defined", plain<is_defined>},
    {"undefined", plain<any_of<Undefined>>},
    {"none", plain<any_of<None>>},
    {"boolean", plain<any_of<bool>>},
    {"true", plain<is_true>},
    {"false", plain<is_false>},
    {"integer", plain<any_of<std::int64_t>>},
    {"float", plain<any_of<double>>},
    {"number", plain<any_of<bool, std::int64_t, double>>},
    {"string", plain<any_of<String>>},
    {"mapping", plain<any_of<Dict>>},
    {"iterable", plain<is_iterable>},
    {"sequence", plain<is_sequence>},
    {"callable", plain<any_of<Function, RoutineValue, Loop, Undefined>>},
    {"escaped", plain<is_escaped>},
    {"odd", is_odd},
    {"even", is_even},
    {"divisibleby", is_divisible},
    {"lower", is_lower_case},
    {"upper", is_upper_case},
    {"in", is_in},
    {"sameas", is_same},
    {"filter", names_filter},
    {"eq", compares<Op::eq>},
    {"equalto", compares<Op::eq>},
    {"==", compares<Op::eq>},
    {"ne", compares<Op::ne>},
    {"!=", compares<Op::ne>},
    {"lt", compares<Op::lt>},
    {"lessthan", compares<Op::lt>},
    {"<", compares<Op::lt>},
    {"le", compares<Op::le>},
    {"<=", compares<Op::le>},
    {"gt", compares<Op::gt>},
    {"greaterthan", compares<Op::gt>},
    {">", compares<Op::gt>},
    {"ge", compares<Op::ge>},
    {">=", compares<Op::ge>},
};

}  // namespace

bool call_test(Runtime& runtime, std::string_view name, const Value& object, const Given& given) {
  for (const auto& [known, check] : checks)
    if (known == name) return check(runtime, object, given);
  if (name == "test") runtime.unsupported("the test \"test\"");
  runtime.wrong("expected a test that Jinja knows, found " + in_quotes(name));
}

}  // namespace pith::text::jinja
