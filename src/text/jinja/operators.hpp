// SPDX-License-Identifier: MIT
// What Python's operators and protocols do with values; where Python raises, these throw Error (format) at the
// runtime's place in the source.
#pragma once

#include <cstddef>
#include <string_view>

#include "text/jinja/runtime.hpp"
#include "text/jinja/syntax.hpp"

namespace pith::text::jinja {

/// The message of an operation that a type does not have, or what is undefined.
[[noreturn]] void refuse(Runtime& runtime, std::string_view operation, const Value& value);

bool truth(const Value& value);
bool equal(Runtime& runtime, const Value& a, const Value& b);
bool less(Runtime& runtime, const Value& a, const Value& b);
bool contains(Runtime& runtime, const Value& container, const Value& item);
bool compare(Runtime& runtime, Comparison::Operator op, const Value& a, const Value& b);

Value binary(Runtime& runtime, Binary::Operator op, const Value& a, const Value& b);
Value negative(Runtime& runtime, const Value& value);
Value positive(Runtime& runtime, const Value& value);

bool is_iterable(const Value& value);
Stream iterate(Runtime& runtime, const Value& value);
std::vector<Value> collect(Runtime& runtime, const Value& iterable);
std::size_t length(Runtime& runtime, const Value& value);

/// object[key] and object.name: what is not there is undefined.
Value item(Runtime& runtime, const Value& object, const Value& key);
Value attribute(Runtime& runtime, const Value& object, std::string_view name);
/// `start`, `stop`, `step`: none where absent.
Value slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop, const Value& step);

/// Whether a value can be a key; throws where it cannot.
void require_key(Runtime& runtime, const Value& value);
/// A dict of pairs in which a key may come again: the last value, at the first one's place.
Value dict_of(Runtime& runtime, std::vector<std::pair<Value, Value>> pairs);

/// The text of a string that Python's Markup does not treat in its own way.
const Text& plain_text(Runtime& runtime, const String& string);

}  // namespace pith::text::jinja
