// SPDX-License-Identifier: MIT
#include "text/jinja/interpreter.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "printable.hpp"
#include "text/jinja/filters.hpp"
#include "text/jinja/globals.hpp"
#include "text/jinja/loop.hpp"
#include "text/jinja/operators.hpp"
#include "text/jinja/printing.hpp"
#include "text/jinja/value_tests.hpp"

namespace pith::text::jinja {

/// The names of one scope: the template's, or of a turn of a loop, of a call, of a block that is set.
struct Frame {
  std::shared_ptr<Frame> outer;  // null: the variables of the conversation, and the globals
  const Names* names = nullptr;  // of the scope, where something else can run in it
  std::vector<std::pair<std::string_view, Value>> values;

  Value* find(std::string_view name) {
    const auto found = std::find_if(values.begin(), values.end(), [&](const auto& pair) { return pair.first == name; });
    return found == values.end() ? nullptr : &found->second;
  }
  void set(std::string_view name, Value value) {
    if (Value* known = find(name)) {
      *known = std::move(value);
    } else {
      values.emplace_back(name, std::move(value));
    }
  }
};

namespace {

enum class Flow { on, broken, continued };

class Interpreter {
 public:
  Interpreter(Runtime& runtime, const Variables& variables)
      : runtime_(runtime), variables_(variables), frame_(std::make_shared<Frame>()) {}

  Text run(const Program& program) {
    Text out;
    out_ = &out;
    frame_->names = program.names.front().get();
    run(program.body);
    return out;
  }

 private:
  /// A scope within the present one, for the length of a block.
  class Scope {
   public:
    explicit Scope(Interpreter& in, const Names* names = nullptr) : Scope(in, in.frame_, names) {}
    Scope(Interpreter& in, std::shared_ptr<Frame> outer, const Names* names = nullptr) : in_(in), back_(in.frame_) {
      in.runtime_.allocate(sizeof(Frame));
      in.frame_ = std::make_shared<Frame>(Frame{std::move(outer), names, {}});
    }
    ~Scope() { in_.frame_ = back_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interpreter& in_;
    std::shared_ptr<Frame> back_;
  };

  /// Runs a block in the present scope, and gives what it writes.
  Text captured(const Block& block) {
    Text out;
    Text* back = std::exchange(out_, &out);
    run(block);
    out_ = back;
    return out;
  }

  void write(const Text& text) {
    runtime_.check_text(out_->size() + text.size());
    runtime_.work(text.size() / 256);
    out_->append(text);
  }

  // Statements.

  Flow run(const Block& block) {
    for (const Statement& statement : block) {
      runtime_.offset = statement.offset;
      const Runtime::Level level(runtime_);
      const Flow flow = std::visit([&](const auto& node) { return run(node); }, statement.node);
      if (flow != Flow::on) return flow;
    }
    return Flow::on;
  }

  Flow run(const Data& node) {
    runtime_.check_text(out_->size() + node.text.size());
    runtime_.work(node.text.size() / 256);
    out_->append(node.text, Origin::of_template);
    return Flow::on;
  }

  Flow run(const Print& node) {
    write(str(runtime_, evaluate(*node.value)));
    return Flow::on;
  }

  Flow run(const If& node) {
    for (const auto& [condition, body] : node.branches)
      if (truth(evaluate(*condition))) return run(body);
    return run(node.otherwise);
  }

  Flow run(const For& node) {
    const Value iterable = evaluate(*node.iterable);
    runtime_.offset = node.iterable->offset;
    Stream next = iterate(runtime_, iterable);
    std::optional<std::size_t> length;
    if (node.condition) {
      next = filtered(node, std::move(next));
    } else if (!iterable.is<Iterator>()) {
      length = jinja::length(runtime_, iterable);
    }
    const Loop loop = make_loop(std::move(next), length, depth_of(iterable));
    bool otherwise = true;  // until a turn has come to its end: a break or continue before that lets it stand
    while (auto value = advance(*loop.data)) {
      const Scope scope(*this, node.names);
      frame_->set("loop", loop);
      assign(node.target, std::move(*value));
      const Flow flow = run(node.body);
      if (flow == Flow::on) otherwise = false;
      if (flow == Flow::broken) break;
    }
    if (!otherwise) return Flow::on;
    const Scope scope(*this);
    return run(node.otherwise);
  }

  /// Those values of a loop that its condition lets through; one after the other, as the loop asks for them.
  Stream filtered(const For& node, Stream next) {
    return [this, &node, home = frame_, next = std::move(next)]() -> std::optional<Value> {
      while (auto value = next()) {
        const Scope scope(*this, home);
        assign(node.target, *value);
        if (truth(evaluate(*node.condition))) return value;
      }
      return {};
    };
  }

  Flow run(const Set& node) {
    check_namespaces(node.target);
    Value value = evaluate(*node.value);
    assign(node.target, std::move(value));
    return Flow::on;
  }

  Flow run(const SetBlock& node) {
    Value value;
    {
      const Scope scope(*this, node.names);
      value = runtime_.text(captured(node.body));
      if (node.filter) value = filter(*node.filter, value);
    }
    check_namespaces(node.target);
    assign(node.target, std::move(value));
    return Flow::on;
  }

  Flow run(const FilterBlock& node) {
    const Scope scope(*this, node.names);
    const Value value = runtime_.text(captured(node.body));
    write(str(runtime_, filter(*node.filter, value)));
    return Flow::on;
  }

  Flow run(const With& node) {
    std::vector<Value> values;
    for (const auto& [target, expression] : node.values) values.push_back(evaluate(*expression));
    const Scope scope(*this, node.names);
    for (std::size_t i = 0; i < values.size(); ++i) assign(node.values[i].first, std::move(values[i]));
    return run(node.body);
  }

  Flow run(const Macro& node) {
    frame_->set(node.routine->name, RoutineValue{node.routine.get(), frame_});
    return Flow::on;
  }

  Flow run(const CallBlock& node) {
    const Call& call = std::get<Call>(node.call->node);
    const Value callee = evaluate(*call.callee);
    Given with = given(call.arguments);
    with.named.emplace_back("caller", RoutineValue{node.caller.get(), frame_});
    runtime_.offset = node.call->offset;
    write(str(runtime_, invoke(callee, with)));
    return Flow::on;
  }

  Flow run(const Generation& node) {
    const Scope scope(*this, node.names);
    return run(node.body);
  }

  Flow run(const Break&) { return Flow::broken; }
  Flow run(const Continue&) { return Flow::continued; }

  // Names.

  Value look_up(const std::string& name) {
    for (Frame* frame = frame_.get(); frame != nullptr; frame = frame->outer.get()) {
      runtime_.work();
      if (const Value* value = frame->find(name)) return *value;
      if (frame->names != nullptr && frame->names->begins_unset(name))
        return Runtime::undefined(in_quotes(name) + " is undefined");
    }
    for (const auto& [known, value] : variables_)
      if (known == name) return value;
    if (auto value = global(name)) return *value;
    return Runtime::undefined(in_quotes(name) + " is undefined");
  }

  void check_namespaces(const Target& target) {
    for (const Target& part : target.parts) check_namespaces(part);
    if (target.attribute.empty()) return;
    runtime_.offset = target.offset;
    if (!look_up(target.name).is<Namespace>())
      runtime_.wrong("expected a namespace to set " + in_quotes(target.name + '.' + target.attribute));
  }

  void assign(const Target& target, Value value) {
    runtime_.offset = target.offset;
    if (target.is_tuple) {
      std::vector<Value> values = collect(runtime_, value);
      if (values.size() != target.parts.size())
        runtime_.wrong("expected " + std::to_string(target.parts.size()) + " values to assign, found " +
                       std::to_string(values.size()));
      for (std::size_t i = 0; i < values.size(); ++i) assign(target.parts[i], std::move(values[i]));
    } else if (!target.attribute.empty()) {
      if (target.attribute.starts_with('_'))
        runtime_.wrong("a namespace stores no name that begins with an underscore, as " + in_quotes(target.attribute));
      const Value home = look_up(target.name);
      const auto* data = home.as<Namespace>();
      if (data == nullptr) runtime_.wrong("expected a namespace to set " + in_quotes(target.attribute));
      if (Value* known = data->data->find(target.attribute)) {
        *known = std::move(value);
      } else {
        runtime_.allocate(sizeof(Value));
        data->data->values.emplace_back(target.attribute, std::move(value));
      }
    } else {
      frame_->set(target.name, std::move(value));
    }
  }

  // Calls.

  Given given(const Arguments& arguments) {
    Given out;
    for (const auto& argument : arguments.positional) out.positional.push_back(evaluate(*argument));
    for (const auto& [name, argument] : arguments.named) out.named.emplace_back(name, evaluate(*argument));
    if (arguments.all_positional)
      for (Value& value : collect(runtime_, evaluate(*arguments.all_positional)))
        out.positional.push_back(std::move(value));
    if (arguments.all_named) {
      const Value more = evaluate(*arguments.all_named);
      const auto* dict = more.as<Dict>();
      if (dict == nullptr) refuse(runtime_, "taking it for arguments by name", more);
      for (const auto& [key, value] : dict->pairs->pairs) {
        if (!key.is<String>()) runtime_.wrong("expected strings for the names of arguments");
        const std::string& name = key.as<String>()->bytes();
        for (const auto& [known, other] : out.named)
          if (known == name) runtime_.wrong("the argument " + in_quotes(name) + " comes twice");
        out.named.emplace_back(name, value);
      }
    }
    return out;
  }

  Value invoke(const Value& callee, const Given& with) {
    if (const auto* function = callee.as<Function>()) {
      static const Value none;
      return function->native(runtime_, function->self ? *function->self : none, with);
    }
    if (const auto* routine = callee.as<RoutineValue>()) {
      auto home = routine->home.lock();
      if (!home) runtime_.unsupported("calling a macro after the end of the block that defines it");
      return invoke(*routine->routine, std::move(home), with);
    }
    if (callee.is<Loop>()) runtime_.unsupported("a recursive loop");
    refuse(runtime_, "calling it", callee);
  }

  Value invoke(const Routine& routine, std::shared_ptr<Frame> home, const Given& with) {
    const Runtime::Level level(runtime_);
    const std::string name = "macro " + in_quotes(routine.name);
    const std::size_t offset = runtime_.offset;
    const std::size_t n = routine.parameters.size();
    std::vector<std::pair<std::string, Value>> named = with.named;
    const auto take = [&](std::string_view wanted) -> std::optional<Value> {
      const auto found =
          std::find_if(named.begin(), named.end(), [&](const auto& pair) { return pair.first == wanted; });
      if (found == named.end()) return {};
      Value out = std::move(found->second);
      named.erase(found);
      return out;
    };

    const Scope scope(*this, std::move(home), routine.names);
    std::vector<std::size_t> missing;
    for (std::size_t i = 0; i < n; ++i) {
      if (i < with.positional.size()) {
        frame_->set(routine.parameters[i], with.positional[i]);
      } else if (auto value = take(routine.parameters[i])) {
        frame_->set(routine.parameters[i], std::move(*value));
      } else {
        missing.push_back(i);
        frame_->set(routine.parameters[i],
                    Runtime::undefined("the parameter " + in_quotes(routine.parameters[i]) + " was not given"));
      }
    }
    if (routine.reads_caller) {
      auto caller = take("caller");
      frame_->set("caller", caller && !caller->is<None>() ? *caller : Runtime::undefined("there is no caller"));
    }
    if (routine.reads_kwargs) {
      std::vector<std::pair<Value, Value>> pairs;
      for (auto& [key, value] : named) pairs.emplace_back(runtime_.text(key), std::move(value));
      frame_->set("kwargs", runtime_.dict(std::move(pairs)));
    } else if (!named.empty()) {
      runtime_.wrong(name + " has no argument " + in_quotes(named.front().first));
    }
    if (routine.reads_varargs) {
      const auto from = with.positional.begin() + static_cast<std::ptrdiff_t>(std::min(n, with.positional.size()));
      frame_->set("varargs", runtime_.tuple({from, with.positional.end()}));
    } else if (with.positional.size() > n) {
      runtime_.wrong(name + ": expected at most " + std::to_string(n) + " arguments, found " +
                     std::to_string(with.positional.size()));
    }
    // Defaults are evaluated here, and may name the parameters before them.
    const std::size_t without = n - routine.defaults.size();
    for (const std::size_t i : missing)
      if (i >= without) frame_->set(routine.parameters[i], evaluate(*routine.defaults[i - without]));
    Value out = runtime_.text(captured(routine.body));
    runtime_.offset = offset;
    return out;
  }

  /// A chain of filters whose innermost object is `head`.
  Value filter(const Expression& expression, const Value& head) {
    const Runtime::Level level(runtime_);
    const Filter& node = std::get<Filter>(expression.node);
    const Value object = node.object ? filter(*node.object, head) : head;
    const Given with = given(node.arguments);
    runtime_.offset = expression.offset;
    return call_filter(runtime_, node.name, object, with);
  }

  // Expressions. `offset` is put back before an operation, for its errors, as evaluating operands moves it.

  Value evaluate(const Expression& expression) {
    runtime_.offset = expression.offset;
    const Runtime::Level level(runtime_);
    return std::visit([&](const auto& node) { return value(node, expression.offset); }, expression.node);
  }

  std::vector<Value> evaluate(const std::vector<ExpressionPtr>& expressions) {
    std::vector<Value> out;
    for (const auto& expression : expressions) out.push_back(evaluate(*expression));
    return out;
  }

  Value value(const Literal& node, std::size_t) {
    if (const auto* text = std::get_if<std::string>(&node.value)) return runtime_.text(*text);
    if (const auto* flag = std::get_if<bool>(&node.value)) return *flag;
    if (const auto* integer = std::get_if<std::int64_t>(&node.value)) return *integer;
    if (const auto* real = std::get_if<double>(&node.value)) return *real;
    return None{};
  }

  Value value(const Name& node, std::size_t) { return look_up(node.name); }
  Value value(const ListDisplay& node, std::size_t) { return runtime_.list(evaluate(node.items)); }
  Value value(const TupleDisplay& node, std::size_t) { return runtime_.tuple(evaluate(node.items)); }

  Value value(const DictDisplay& node, std::size_t offset) {
    std::vector<std::pair<Value, Value>> pairs;
    for (const auto& [key, element] : node.items) {
      Value name = evaluate(*key);
      pairs.emplace_back(std::move(name), evaluate(*element));
    }
    runtime_.offset = offset;
    return dict_of(runtime_, std::move(pairs));
  }

  Value value(const Attribute& node, std::size_t offset) {
    const Value object = evaluate(*node.object);
    runtime_.offset = offset;
    return attribute(runtime_, object, node.name);
  }

  Value value(const Subscript& node, std::size_t offset) {
    const Value object = evaluate(*node.object), index = evaluate(*node.index);
    runtime_.offset = offset;
    return item(runtime_, object, index);
  }

  Value value(const Slice& node, std::size_t offset) {
    const auto part = [&](const ExpressionPtr& expression) { return expression ? evaluate(*expression) : Value(); };
    const Value object = evaluate(*node.object);
    const Value start = part(node.start), stop = part(node.stop), step = part(node.step);
    runtime_.offset = offset;
    return slice(runtime_, object, start, stop, step);
  }

  Value value(const Call& node, std::size_t offset) {
    const Value callee = evaluate(*node.callee);
    const Given with = given(node.arguments);
    runtime_.offset = offset;
    return invoke(callee, with);
  }

  Value value(const Filter& node, std::size_t offset) {
    const Value object = evaluate(*node.object);
    const Given with = given(node.arguments);
    runtime_.offset = offset;
    return call_filter(runtime_, node.name, object, with);
  }

  Value value(const Test& node, std::size_t offset) {
    const Value object = evaluate(*node.object);
    const Given with = given(node.arguments);
    runtime_.offset = offset;
    return call_test(runtime_, node.name, object, with);
  }

  Value value(const Unary& node, std::size_t offset) {
    const Value operand = evaluate(*node.operand);
    runtime_.offset = offset;
    switch (node.op) {
      case Unary::Operator::no:
        return !truth(operand);
      case Unary::Operator::negative:
        return negative(runtime_, operand);
      case Unary::Operator::positive:
        return positive(runtime_, operand);
    }
    return None{};
  }

  Value value(const Binary& node, std::size_t offset) {
    const Value left = evaluate(*node.left), right = evaluate(*node.right);
    runtime_.offset = offset;
    return binary(runtime_, node.op, left, right);
  }

  Value value(const Both& node, std::size_t) {
    Value left = evaluate(*node.left);
    return truth(left) ? evaluate(*node.right) : left;
  }

  Value value(const Either& node, std::size_t) {
    Value left = evaluate(*node.left);
    return truth(left) ? left : evaluate(*node.right);
  }

  Value value(const Concatenation& node, std::size_t offset) {
    const std::vector<Value> parts = evaluate(node.parts);
    runtime_.offset = offset;
    Text out;
    for (const Value& part : parts) {
      const Text text = str(runtime_, part);
      runtime_.check_text(out.size() + text.size());
      out.append(text);
    }
    return runtime_.text(std::move(out));
  }

  Value value(const Comparison& node, std::size_t offset) {
    Value left = evaluate(*node.first);
    for (const auto& [op, expression] : node.others) {
      Value right = evaluate(*expression);
      runtime_.offset = offset;
      if (!compare(runtime_, op, left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Value value(const Conditional& node, std::size_t) {
    if (truth(evaluate(*node.condition))) return evaluate(*node.then);
    if (node.otherwise) return evaluate(*node.otherwise);
    return Runtime::undefined("an inline if without else, whose condition is false, has no value");
  }

  Runtime& runtime_;
  const Variables& variables_;
  std::shared_ptr<Frame> frame_;
  Text* out_ = nullptr;
};

}  // namespace

Text render(Runtime& runtime, const Program& program, const Variables& variables) {
  return Interpreter(runtime, variables).run(program);
}

}  // namespace pith::text::jinja
