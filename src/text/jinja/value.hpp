// SPDX-License-Identifier: MIT
// What an expression of a template may be: Python's values, as far as chat templates see them. None can be changed but
// a namespace, and nothing that is owned here can hold itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/text.hpp"

namespace pith::text::jinja {

class Value;
class Runtime;
struct Arguments;
struct Frame;
struct Routine;

struct Undefined {
  std::shared_ptr<const std::string> why;  // what to say of it where it is used; never null
};
struct None {};

/// `markup`: it went through `safe` or `escape`, and Python's Markup would treat what is joined to it in its own way.
struct String {
  std::shared_ptr<const Text> text;
  bool markup = false;

  const std::string& bytes() const { return text->bytes(); }
};

struct Items {
  std::vector<Value> values;
  int depth = 1;  // of containers within each other
};
struct List {
  std::shared_ptr<const Items> items;
};
struct Tuple {
  std::shared_ptr<const Items> items;
};

struct Pairs {  // in the order of insertion, each key once
  std::vector<std::pair<Value, Value>> pairs;
  int depth = 1;
};
struct Dict {
  std::shared_ptr<const Pairs> pairs;
};
struct View {  // of a dict: keys(), values(), items()
  enum class Of { keys, values, items } of;
  std::shared_ptr<const Pairs> pairs;
};

struct Numbers {  // range(start, stop, step)
  std::int64_t start = 0, stop = 0, step = 1;
  std::size_t count = 0;

  std::int64_t at(std::size_t i) const { return start + static_cast<std::int64_t>(i) * step; }
};

/// Gives one value after another, then none; Python's iterators and generators. Read once.
using Stream = std::function<std::optional<Value>()>;
struct Iterator {
  std::shared_ptr<Stream> next;
  int depth = 1;
};

struct NamespaceData;
struct Namespace {
  NamespaceData* data;  // the runtime's
};

/// The variable `loop`.
struct LoopData;
struct Loop {
  std::shared_ptr<LoopData> data;
};

/// The arguments of a call, evaluated.
struct Given {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// A function that is not the template's: a global, or a method of `self`. `name` for errors.
using Native = Value (*)(Runtime& runtime, const Value& self, const Given& given);
struct Function {
  std::string_view name;
  Native native = nullptr;
  std::shared_ptr<const Value> self;  // perhaps null
};

/// A macro, or what a call block hands to it as `caller`.
struct RoutineValue {
  const Routine* routine = nullptr;
  std::weak_ptr<Frame> home;  // where it was defined, and where it looks names up
};

class Value : public std::variant<Undefined, None, bool, std::int64_t, double, String, List, Tuple, Dict, View, Numbers,
                                  Iterator, Namespace, Loop, Function, RoutineValue> {
 public:
  using variant::variant;
  Value() : variant(None{}) {}

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(*this);
  }
  template <class T>
  const T* as() const {
    return std::get_if<T>(this);
  }
};

struct NamespaceData {
  std::vector<std::pair<std::string, Value>> values;

  Value* find(std::string_view name);
};

struct LoopData {
  Stream next;
  int depth = 1;
  std::optional<std::size_t> length;  // where it is known beforehand
  std::size_t index = 0;              // from 1; 0 before the first
  std::optional<Value> previous, current, following;
  bool peeked = false;                        // following has been asked for
  std::optional<std::vector<Value>> changed;  // what loop.changed() was last given; none holds other values
};

/// "str", "dict", ...: as Python names the type.
std::string_view type_name(const Value& value);

/// How many values hold each other here, one within the next: 0 for those that hold none.
int depth_of(const Value& value);

/// What a sequence of either kind holds; null for others.
const Items* items_of(const Value& value);

/// An integer or a bool as one; Python's bool is an int.
std::optional<std::int64_t> integer_of(const Value& value);
/// An integer, bool or float as a double.
std::optional<double> number_of(const Value& value);

const Value* find(const Pairs& pairs, std::string_view key);

}  // namespace pith::text::jinja
