// SPDX-License-Identifier: MIT
// The syntax tree of a template: what the parser builds and the interpreter walks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace pith::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Literal {  // monostate: none
  std::variant<std::monostate, bool, std::int64_t, double, std::string> value;
};
struct Name {
  std::string name;
};
struct ListDisplay {
  std::vector<ExpressionPtr> items;
};
struct TupleDisplay {
  std::vector<ExpressionPtr> items;
};
struct DictDisplay {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
struct Attribute {  // object.name
  ExpressionPtr object;
  std::string name;
};
struct Subscript {  // object[index]
  ExpressionPtr object, index;
};
struct Slice {  // object[start:stop:step], each perhaps absent
  ExpressionPtr object, start, stop, step;
};
struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr all_positional, all_named;  // *these, **these; perhaps absent
};
struct Call {
  ExpressionPtr callee;
  Arguments arguments;
};
struct Filter {
  ExpressionPtr object;  // absent at the head of a filter of a block: what the block wrote
  std::string name;
  Arguments arguments;
};
struct Test {
  ExpressionPtr object;
  std::string name;
  Arguments arguments;
};
struct Unary {
  enum class Operator { negative, positive, no } op;
  ExpressionPtr operand;
};
struct Binary {
  enum class Operator { add, subtract, multiply, divide, floor_divide, modulo, power } op;
  ExpressionPtr left, right;
};
struct Both {  // left and right
  ExpressionPtr left, right;
};
struct Either {  // left or right
  ExpressionPtr left, right;
};
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
struct Comparison {
  enum class Operator { eq, ne, lt, le, gt, ge, in, not_in };
  ExpressionPtr first;
  std::vector<std::pair<Operator, ExpressionPtr>> others;
};
struct Conditional {
  ExpressionPtr condition, then, otherwise;  // otherwise: perhaps absent
};

struct Expression {
  std::size_t offset = 0;  // in the source
  std::variant<Literal, Name, ListDisplay, TupleDisplay, DictDisplay, Attribute, Subscript, Slice, Call, Filter, Test,
               Unary, Binary, Both, Either, Concatenation, Comparison, Conditional>
      node;
};

/// What an assignment writes to: a name, an attribute of a namespace, or several of these.
struct Target {
  std::size_t offset = 0;
  std::string name, attribute;  // attribute: empty for a plain name
  std::vector<Target> parts;    // of a tuple
  bool is_tuple = false;
};

/// The names that a scope uses itself, and whether its first use of each sets it. Jinja binds such a name to the scope
/// as a whole: whatever is called or runs within the scope before it is set finds nothing, where others find the
/// conversation's variable.
struct Names {
  const Names* outer = nullptr;
  std::map<std::string, bool, std::less<>> set_first;

  /// Whether the name is this scope's own, and unset until the scope sets it.
  bool begins_unset(std::string_view name) const {
    const auto found = set_first.find(name);
    if (found == set_first.end() || !found->second) return false;
    for (const Names* names = outer; names != nullptr; names = names->outer)
      if (names->set_first.contains(name)) return false;
    return true;
  }
};

struct Statement;
using Block = std::vector<Statement>;

struct Data {
  std::string text;
};
struct Print {
  ExpressionPtr value;
};
struct For {
  Target target;
  ExpressionPtr iterable, condition;  // condition: perhaps absent
  Block body, otherwise;
  const Names* names = nullptr;  // of the body
};
struct If {
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  ExpressionPtr filter;  // perhaps absent
  Block body;
  const Names* names = nullptr;
};
struct FilterBlock {
  ExpressionPtr filter;
  Block body;
  const Names* names = nullptr;
};
struct With {
  std::vector<std::pair<Target, ExpressionPtr>> values;
  Block body;
  const Names* names = nullptr;
};

/// What can be called with arguments: a macro, or the body of a call block.
struct Routine {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  bool reads_caller = false, reads_varargs = false, reads_kwargs = false;
  Block body;
  const Names* names = nullptr;
};
struct Macro {
  std::unique_ptr<const Routine> routine;
};
struct CallBlock {
  ExpressionPtr call;
  std::unique_ptr<const Routine> caller;
};
struct Generation {  // what the model has said, as transformers marks it for training
  Block body;
  const Names* names = nullptr;
};
struct Break {};
struct Continue {};

struct Statement {
  std::size_t offset = 0;
  std::variant<Data, Print, For, If, Set, SetBlock, FilterBlock, With, Macro, CallBlock, Generation, Break, Continue>
      node;
};

}  // namespace pith::text::jinja
