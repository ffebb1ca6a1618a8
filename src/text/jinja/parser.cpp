// SPDX-License-Identifier: MIT
// By recursive descent; each function is a rule of Jinja's grammar, with its precedences (jinja2/parser.py).
#include "text/jinja/parser.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>

#include "printable.hpp"
#include "text/jinja/lexer.hpp"

namespace pith::text::jinja {

namespace {

using Kind = Lexeme::Kind;

constexpr int deepest = 200;   // rules within each other: brackets take three, statements and prefixes one
constexpr int longest = 1000;  // operations in a tag: in a chain (a + b + c) each makes the tree one deeper

std::string describe(const Lexeme& lexeme) {
  switch (lexeme.kind) {
    case Kind::data:
      return "text";
    case Kind::variable_begin:
      return "\"{{\"";
    case Kind::variable_end:
      return "\"}}\"";
    case Kind::block_begin:
      return "\"{%\"";
    case Kind::block_end:
      return "\"%}\"";
    case Kind::string:
      return "the string " + in_quotes(lexeme.text);
    case Kind::integer:
    case Kind::real:
      return "a number";
    case Kind::end:
      return "the end of the template";
    case Kind::name:
    case Kind::sign:
      break;
  }
  return in_quotes(lexeme.text);
}

class Parser {
 public:
  explicit Parser(const Source& source) : source_(source), lexemes_(tokenize(source)) {}

  Program run() {
    Program out;
    within([&] { out.body = block({}, 0); });
    out.names = std::move(scopes_);
    for (Lexeme& lexeme : lexemes_)
      if (lexeme.kind == Kind::data || lexeme.kind == Kind::string) out.literals.push_back(std::move(lexeme.text));
    return out;
  }

 private:
  /// Counts how deep the rules are within each other, for the length of a rule.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > deepest)
        parser_.source_.fail(ErrorCode::unsupported, parser_.now().offset,
                             "expected nesting of at most " + std::to_string(deepest) + ", found more");
    }
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  const Lexeme& now() const { return lexemes_[at_]; }
  const Lexeme& after() const { return lexemes_[std::min(at_ + 1, lexemes_.size() - 1)]; }
  const Lexeme& take() {
    const Lexeme& out = lexemes_[at_];
    if (at_ + 1 < lexemes_.size()) ++at_;
    return out;
  }

  static bool is(const Lexeme& lexeme, Kind kind, std::string_view text) {
    return lexeme.kind == kind && lexeme.text == text;
  }
  bool is_sign(std::string_view text) const { return is(now(), Kind::sign, text); }
  bool is_word(std::string_view text) const { return is(now(), Kind::name, text); }
  bool is_word(std::initializer_list<std::string_view> words) const {
    return now().kind == Kind::name && std::find(words.begin(), words.end(), now().text) != words.end();
  }
  bool skip_sign(std::string_view text) { return is_sign(text) && (take(), true); }
  bool skip_word(std::string_view text) { return is_word(text) && (take(), true); }

  [[noreturn]] void fail(std::size_t offset, const std::string& message) const {
    source_.fail(ErrorCode::format, offset, message);
  }
  [[noreturn]] void expected(const std::string& what) const {
    fail(now().offset, "expected " + what + ", found " + describe(now()));
  }
  [[noreturn]] void unsupported(std::size_t offset, const std::string& what) const {
    source_.fail(ErrorCode::unsupported, offset, what + " is not supported");
  }
  void need_sign(std::string_view text) {
    if (!skip_sign(text)) expected(in_quotes(text));
  }
  void need_word(std::string_view text) {
    if (!skip_word(text)) expected(in_quotes(text));
  }
  std::string need_name() {
    if (now().kind != Kind::name) expected("a name");
    return take().text;
  }
  void need_end() {
    if (now().kind != Kind::block_end) expected("\"%}\"");
    take();
  }

  template <class Node>
  static ExpressionPtr make(std::size_t offset, Node node) {
    return std::make_unique<const Expression>(Expression{offset, std::move(node)});
  }

  /// One more operation in this tag.
  void link() {
    if (++links_ > longest)
      source_.fail(ErrorCode::unsupported, now().offset,
                   "expected at most " + std::to_string(longest) + " operations in a tag, found more");
  }

  // Statements.

  /// Up to a block that begins with one of `ends`, "{%" taken; or, where there are none, to the end of the template.
  Block block(std::initializer_list<std::string_view> ends, std::size_t opened) {
    const Level level(*this);
    Block out;
    while (true) {
      const std::size_t offset = now().offset;
      switch (now().kind) {
        case Kind::data:
          out.push_back({offset, Data{now().text}});
          take();
          break;
        case Kind::variable_begin:
          links_ = 0;
          take();
          out.push_back({offset, Print{tuple_or_expression()}});
          if (now().kind != Kind::variable_end) expected("\"}}\"");
          take();
          break;
        case Kind::block_begin:
          links_ = 0;
          take();
          if (is_word(ends)) return out;
          statement(out);
          need_end();
          break;
        case Kind::end:
          if (ends.size() == 0) return out;
          fail(opened, "this block has no end; expected " + in_quotes(*(ends.end() - 1)));
        default:
          expected("text or a tag");
      }
    }
  }

  /// The body of a statement: from its "%}" (a colon may stand before it) to one of `ends`.
  Block body(std::initializer_list<std::string_view> ends, std::size_t opened) {
    skip_sign(":");
    need_end();
    return block(ends, opened);
  }

  Block body_to(std::string_view end, std::size_t opened) {
    Block out = body({end}, opened);
    need_word(end);
    return out;
  }

  void statement(Block& out) {
    const Lexeme& tag = now();
    const std::size_t offset = tag.offset;
    const auto add = [&](auto node) { out.push_back({offset, std::move(node)}); };
    if (tag.kind != Kind::name) expected("the name of a tag");
    const std::string name = take().text;
    if (name == "for") return add(for_statement(offset));
    if (name == "if") return add(if_statement(offset));
    if (name == "set") return set_statement(out, offset);
    if (name == "macro") return add(macro(offset));
    if (name == "call") return add(call_block(offset));
    if (name == "filter") return add(filter_block(offset));
    if (name == "with") return add(with_statement(offset));
    if (name == "print") return print_statement(out, offset);
    if (name == "generation") {
      const int loops = std::exchange(loops_, 0);
      Generation node;
      node.names = within([&] { node.body = body_to("endgeneration", offset); });
      add(std::move(node));
      loops_ = loops;
      return;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) fail(offset, in_quotes(name) + " outside of a loop");
      if (name == "break") return add(Break{});
      return add(Continue{});
    }
    constexpr std::array<std::string_view, 6> others = {"block", "extends", "include", "import", "from", "autoescape"};
    if (std::find(others.begin(), others.end(), name) != others.end())
      unsupported(offset, "the tag " + in_quotes(name));
    fail(offset, "expected a tag that Jinja knows, found " + in_quotes(name));
  }

  For for_statement(std::size_t offset) {
    For out;
    ++loops_;
    out.target = target(Attributes::no);
    need_word("in");
    out.iterable = tuple_or_expression(Conditionals::no);
    if (skip_word("if")) within([&] { out.condition = expression(); });
    if (is_word("recursive")) unsupported(now().offset, "a recursive loop");
    out.names = within([&] {
      sets(out.target);
      out.body = body({"else", "endfor"}, offset);
    });
    --loops_;
    if (take().text == "else") within([&] { out.otherwise = body_to("endfor", offset); });
    return out;
  }

  If if_statement(std::size_t offset) {
    If out;
    while (true) {
      auto condition = tuple_or_expression(Conditionals::no);
      ++branches_;
      Block then = body({"elif", "else", "endif"}, offset);
      out.branches.emplace_back(std::move(condition), std::move(then));
      const std::string next = take().text;
      if (next == "else") out.otherwise = body_to("endif", offset);
      --branches_;
      if (next != "elif") return out;
    }
  }

  void set_statement(Block& out, std::size_t offset) {
    Target to = target(Attributes::yes);
    if (skip_sign("=")) {
      auto value = tuple_or_expression();
      sets(to);
      out.push_back({offset, Set{std::move(to), std::move(value)}});
      return;
    }
    sets(to);
    SetBlock node;
    node.target = std::move(to);
    node.names = within([&] {
      while (is_sign("|")) node.filter = filter_link(std::move(node.filter));
      const int loops = std::exchange(loops_, 0);
      node.body = body_to("endset", offset);
      loops_ = loops;
    });
    out.push_back({offset, std::move(node)});
  }

  FilterBlock filter_block(std::size_t offset) {
    FilterBlock out;
    out.filter = filter_named(nullptr);
    while (is_sign("|")) out.filter = filter_link(std::move(out.filter));
    const int loops = std::exchange(loops_, 0);
    out.names = within([&] { out.body = body_to("endfilter", offset); });
    loops_ = loops;
    return out;
  }

  With with_statement(std::size_t offset) {
    With out;
    while (now().kind != Kind::block_end) {
      if (!out.values.empty()) need_sign(",");
      Target to = target(Attributes::no);
      need_sign("=");
      out.values.emplace_back(std::move(to), expression());
    }
    out.names = within([&] {
      for (const auto& [to, value] : out.values) sets(to);
      out.body = body_to("endwith", offset);
    });
    return out;
  }

  void print_statement(Block& out, std::size_t offset) {
    bool first = true;
    while (now().kind != Kind::block_end) {
      if (!first) need_sign(",");
      first = false;
      out.push_back({offset, Print{expression()}});
    }
  }

  Macro macro(std::size_t offset) {
    const std::string name = target_name();
    sets(name);
    return {routine(name, "endmacro", offset, [&](Routine& out) { signature(out); })};
  }

  CallBlock call_block(std::size_t offset) {
    CallBlock out;
    Names* const outer = names_;
    out.caller = routine("caller", "endcall", offset, [&](Routine& caller) {
      if (is_sign("(")) signature(caller);
      const std::size_t call = now().offset;
      Names* const inner = std::exchange(names_, outer);
      out.call = expression();
      names_ = inner;
      if (!std::holds_alternative<Call>(out.call->node)) fail(call, "expected a call");
    });
    return out;
  }

  template <class Head>
  std::unique_ptr<const Routine> routine(const std::string& name, std::string_view end, std::size_t offset, Head head) {
    auto out = std::make_unique<Routine>();
    out->name = name;
    out->names = within([&] {
      head(*out);
      routines_.push_back(out.get());
      const int loops = std::exchange(loops_, 0);
      out->body = body_to(end, offset);
      loops_ = loops;
      routines_.pop_back();
    });
    const auto is_parameter = [&](std::string_view word) {
      return std::find(out->parameters.begin(), out->parameters.end(), word) != out->parameters.end();
    };
    if (is_parameter("caller")) unsupported(offset, "a parameter named \"caller\"");
    if (is_parameter("kwargs")) out->reads_kwargs = false;
    if (is_parameter("varargs")) out->reads_varargs = false;
    return out;
  }

  void signature(Routine& out) {
    need_sign("(");
    while (!is_sign(")")) {
      if (!out.parameters.empty()) need_sign(",");
      const std::size_t offset = now().offset;
      out.parameters.push_back(target_name());
      sets(out.parameters.back());
      if (skip_sign("=")) {
        out.defaults.push_back(expression());
      } else if (!out.defaults.empty()) {
        fail(offset, "a parameter without default follows one with a default");
      }
    }
    need_sign(")");
  }

  // Names.

  /// Parses something in a scope of its own.
  template <class F>
  const Names* within(F&& parse) {
    scopes_.push_back(std::make_unique<Names>());
    Names* const inner = scopes_.back().get();
    inner->outer = names_;
    Names* const outer = std::exchange(names_, inner);
    const int branches = std::exchange(branches_, 0);
    parse();
    branches_ = branches;
    names_ = outer;
    return inner;
  }

  void reads(const std::string& name) { names_->set_first.try_emplace(name, false); }

  /// What only some branch sets begins as the conversation's.
  void sets(const std::string& name) { names_->set_first.try_emplace(name, branches_ == 0); }
  void sets(const Target& target) {
    for (const Target& part : target.parts) sets(part);
    if (target.is_tuple) return;
    target.attribute.empty() ? sets(target.name) : reads(target.name);
  }

  // Targets.

  enum class Attributes { no, yes };  // whether a namespace's may be assigned to

  static bool is_constant(std::string_view name) {
    constexpr std::array<std::string_view, 6> constants = {"true", "false", "True", "False", "none", "None"};
    return std::find(constants.begin(), constants.end(), name) != constants.end();
  }

  std::string target_name() {
    const std::size_t offset = now().offset;
    std::string name = need_name();
    if (is_constant(name)) fail(offset, "expected a name that can be assigned to, found " + in_quotes(name));
    return name;
  }

  Target one_target(Attributes attributes) {
    const Level level(*this);
    Target out;
    out.offset = now().offset;
    if (skip_sign("(")) {
      out = target(Attributes::no);
      need_sign(")");
      return out;
    }
    out.name = target_name();
    if (out.name == "loop" && loops_ > 0) fail(out.offset, "the variable \"loop\" of a loop cannot be assigned to");
    if (attributes == Attributes::yes && skip_sign(".")) out.attribute = need_name();
    return out;
  }

  Target target(Attributes attributes) {
    const std::size_t offset = now().offset;
    Target first = one_target(attributes);
    if (!is_sign(",")) return first;
    Target out;
    out.offset = offset;
    out.is_tuple = true;
    out.parts.push_back(std::move(first));
    while (skip_sign(",")) {
      if (is_sign(")") || now().kind == Kind::block_end) break;
      out.parts.push_back(one_target(attributes));
    }
    return out;
  }

  // Expressions, from the weakest binding to the strongest.

  enum class Conditionals { no, yes };  // whether "a if b else c" may stand without brackets

  bool ends_tuple() const { return now().kind == Kind::variable_end || now().kind == Kind::block_end || is_sign(")"); }

  ExpressionPtr tuple_or_expression(Conditionals conditionals = Conditionals::yes) {
    const std::size_t offset = now().offset;
    auto first = expression(conditionals);
    if (!is_sign(",")) return first;
    TupleDisplay out;
    out.items.push_back(std::move(first));
    while (skip_sign(",")) {
      if (ends_tuple()) break;
      out.items.push_back(expression(conditionals));
    }
    return make(offset, std::move(out));
  }

  ExpressionPtr expression(Conditionals conditionals = Conditionals::yes) {
    return conditionals == Conditionals::yes ? conditional() : disjunction();
  }

  ExpressionPtr conditional() {
    const Level level(*this);
    auto out = disjunction();
    while (is_word("if")) {
      const std::size_t offset = take().offset;
      link();
      Conditional node;
      node.condition = disjunction();
      node.then = std::move(out);
      if (skip_word("else")) node.otherwise = conditional();
      out = make(offset, std::move(node));
    }
    return out;
  }

  ExpressionPtr disjunction() {
    auto out = conjunction();
    while (is_word("or")) {
      const std::size_t offset = take().offset;
      link();
      auto right = conjunction();
      out = make(offset, Either{std::move(out), std::move(right)});
    }
    return out;
  }

  ExpressionPtr conjunction() {
    auto out = negation();
    while (is_word("and")) {
      const std::size_t offset = take().offset;
      link();
      auto right = negation();
      out = make(offset, Both{std::move(out), std::move(right)});
    }
    return out;
  }

  ExpressionPtr negation() {
    const Level level(*this);
    if (!is_word("not")) return comparison();
    const std::size_t offset = take().offset;
    return make(offset, Unary{Unary::Operator::no, negation()});
  }

  ExpressionPtr comparison() {
    auto first = sum();
    Comparison out;
    const std::size_t offset = now().offset;
    while (true) {
      using Operator = Comparison::Operator;
      constexpr std::array<std::pair<std::string_view, Operator>, 6> signs = {{{"==", Operator::eq},
                                                                               {"!=", Operator::ne},
                                                                               {"<", Operator::lt},
                                                                               {"<=", Operator::le},
                                                                               {">", Operator::gt},
                                                                               {">=", Operator::ge}}};
      const auto sign = std::find_if(signs.begin(), signs.end(), [&](const auto& pair) { return is_sign(pair.first); });
      if (sign != signs.end()) {
        take();
        out.others.emplace_back(sign->second, sum());
      } else if (skip_word("in")) {
        out.others.emplace_back(Operator::in, sum());
      } else if (is_word("not") && is(after(), Kind::name, "in")) {
        take();
        take();
        out.others.emplace_back(Operator::not_in, sum());
      } else {
        break;
      }
    }
    if (out.others.empty()) return first;
    out.first = std::move(first);
    return make(offset, std::move(out));
  }

  using Signs = std::initializer_list<std::pair<std::string_view, Binary::Operator>>;

  template <class Operand>
  ExpressionPtr binary(Signs signs, Operand operand) {
    auto out = operand();
    while (true) {
      const auto sign = std::find_if(signs.begin(), signs.end(), [&](const auto& pair) { return is_sign(pair.first); });
      if (sign == signs.end()) return out;
      link();
      const std::size_t offset = take().offset;
      auto right = operand();
      out = make(offset, Binary{sign->second, std::move(out), std::move(right)});
    }
  }

  ExpressionPtr sum() {
    return binary({{"+", Binary::Operator::add}, {"-", Binary::Operator::subtract}}, [&] { return concatenation(); });
  }

  ExpressionPtr concatenation() {
    auto first = product();
    if (!is_sign("~")) return first;
    const std::size_t offset = now().offset;
    Concatenation out;
    out.parts.push_back(std::move(first));
    while (skip_sign("~")) out.parts.push_back(product());
    return make(offset, std::move(out));
  }

  ExpressionPtr product() {
    return binary({{"*", Binary::Operator::multiply},
                   {"/", Binary::Operator::divide},
                   {"//", Binary::Operator::floor_divide},
                   {"%", Binary::Operator::modulo}},
                  [&] { return power(); });
  }

  ExpressionPtr power() {
    return binary({{"**", Binary::Operator::power}}, [&] { return unary(Filters::yes); });
  }

  enum class Filters { no, yes };  // whether filters and tests bind to what follows

  ExpressionPtr unary(Filters filters) {
    const Level level(*this);
    const std::size_t offset = now().offset;
    ExpressionPtr out;
    if (skip_sign("-")) {
      out = make(offset, Unary{Unary::Operator::negative, unary(Filters::no)});
    } else if (skip_sign("+")) {
      out = make(offset, Unary{Unary::Operator::positive, unary(Filters::no)});
    } else {
      out = primary();
    }
    out = postfix(std::move(out));
    if (filters == Filters::no) return out;
    while (true) {
      if (is_sign("|")) {
        out = filter_link(std::move(out));
      } else if (is_word("is")) {
        link();
        out = test(std::move(out));
      } else if (is_sign("(")) {
        link();
        out = call(std::move(out));
      } else {
        return out;
      }
    }
  }

  ExpressionPtr primary() {
    const Lexeme& first = now();
    const std::size_t offset = first.offset;
    switch (first.kind) {
      case Kind::name: {
        const std::string name = take().text;
        if (name == "true" || name == "True") return make(offset, Literal{true});
        if (name == "false" || name == "False") return make(offset, Literal{false});
        if (name == "none" || name == "None") return make(offset, Literal{});
        for (Routine* routine : routines_) {
          if (name == "caller") routine->reads_caller = true;
          if (name == "varargs") routine->reads_varargs = true;
          if (name == "kwargs") routine->reads_kwargs = true;
        }
        reads(name);
        return make(offset, Name{name});
      }
      case Kind::string: {
        std::string value;
        while (now().kind == Kind::string) value += take().text;
        return make(offset, Literal{std::move(value)});
      }
      case Kind::integer:
        return make(offset, Literal{take().integer});
      case Kind::real:
        return make(offset, Literal{take().real});
      default:
        break;
    }
    if (skip_sign("(")) {
      if (skip_sign(")")) return make(offset, TupleDisplay{});
      auto out = tuple_or_expression();
      need_sign(")");
      return out;
    }
    if (skip_sign("[")) {
      ListDisplay out;
      while (!is_sign("]")) {
        if (!out.items.empty()) need_sign(",");
        if (is_sign("]")) break;
        out.items.push_back(expression());
      }
      need_sign("]");
      return make(offset, std::move(out));
    }
    if (skip_sign("{")) {
      DictDisplay out;
      while (!is_sign("}")) {
        if (!out.items.empty()) need_sign(",");
        if (is_sign("}")) break;
        auto key = expression();
        need_sign(":");
        out.items.emplace_back(std::move(key), expression());
      }
      need_sign("}");
      return make(offset, std::move(out));
    }
    expected("an expression");
  }

  ExpressionPtr postfix(ExpressionPtr out) {
    while (true) {
      if (is_sign(".")) {
        link();
        out = attribute(std::move(out));
      } else if (is_sign("[")) {
        link();
        out = subscript(std::move(out));
      } else if (is_sign("(")) {
        link();
        out = call(std::move(out));
      } else {
        return out;
      }
    }
  }

  ExpressionPtr attribute(ExpressionPtr object) {
    const std::size_t offset = take().offset;
    if (now().kind == Kind::integer) {
      auto index = make(now().offset, Literal{now().integer});
      take();
      return make(offset, Subscript{std::move(object), std::move(index)});
    }
    return make(offset, Attribute{std::move(object), need_name()});
  }

  ExpressionPtr subscript(ExpressionPtr object) {
    const std::size_t offset = take().offset;
    ExpressionPtr start;
    if (!is_sign(":")) {
      start = expression();
      if (skip_sign("]")) return make(offset, Subscript{std::move(object), std::move(start)});
      if (is_sign(",")) unsupported(now().offset, "a subscript of several parts");
    }
    need_sign(":");
    Slice out;
    out.object = std::move(object);
    out.start = std::move(start);
    if (!is_sign("]") && !is_sign(":")) out.stop = expression();
    if (skip_sign(":") && !is_sign("]")) out.step = expression();
    need_sign("]");
    return make(offset, std::move(out));
  }

  Arguments arguments() {
    const std::size_t offset = now().offset;
    Arguments out;
    const auto ensure = [&](bool holds) {
      if (!holds) fail(offset, "the arguments of this call are in no order that a call can have");
    };
    need_sign("(");
    for (bool first = true; !is_sign(")"); first = false) {
      if (!first) {
        need_sign(",");
        if (is_sign(")")) break;
      }
      if (skip_sign("*")) {
        ensure(!out.all_positional && !out.all_named);
        out.all_positional = expression();
      } else if (skip_sign("**")) {
        ensure(!out.all_named);
        out.all_named = expression();
      } else if (now().kind == Kind::name && is(after(), Kind::sign, "=")) {
        ensure(!out.all_named);
        std::string name = take().text;
        take();
        for (const auto& [other, value] : out.named)
          if (other == name) fail(offset, "the argument " + in_quotes(name) + " comes twice");
        out.named.emplace_back(std::move(name), expression());
      } else {
        ensure(!out.all_positional && !out.all_named && out.named.empty());
        out.positional.push_back(expression());
      }
    }
    need_sign(")");
    return out;
  }

  ExpressionPtr call(ExpressionPtr callee) {
    const std::size_t offset = now().offset;
    auto with = arguments();
    return make(offset, Call{std::move(callee), std::move(with)});
  }

  ExpressionPtr filter_link(ExpressionPtr object) {
    need_sign("|");
    link();
    return filter_named(std::move(object));
  }

  ExpressionPtr filter_named(ExpressionPtr object) {
    const std::size_t offset = now().offset;
    Filter out;
    out.object = std::move(object);
    out.name = dotted_name();
    if (is_sign("(")) out.arguments = arguments();
    return make(offset, std::move(out));
  }

  std::string dotted_name() {
    std::string out = need_name();
    while (skip_sign(".")) out += '.' + need_name();
    return out;
  }

  ExpressionPtr test(ExpressionPtr object) {
    const std::size_t offset = take().offset;
    const bool negated = skip_word("not");
    Test node;
    node.object = std::move(object);
    node.name = dotted_name();
    const Kind kind = now().kind;
    const bool starts_argument = (kind == Kind::name && !is_word({"else", "or", "and"})) || kind == Kind::string ||
                                 kind == Kind::integer || kind == Kind::real || is_sign("[") || is_sign("{");
    if (is_sign("(")) {
      node.arguments = arguments();
    } else if (starts_argument) {
      if (is_word("is")) fail(now().offset, "tests cannot follow each other");
      auto argument = primary();
      node.arguments.positional.push_back(postfix(std::move(argument)));
    }
    auto out = make(offset, std::move(node));
    return negated ? make(offset, Unary{Unary::Operator::no, std::move(out)}) : std::move(out);
  }

  const Source& source_;
  std::vector<Lexeme> lexemes_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int links_ = 0;                   // operations in this tag so far
  int loops_ = 0;                   // around what is parsed, within the innermost routine
  std::vector<Routine*> routines_;  // around what is parsed
  int branches_ = 0;                // around what is parsed, within the innermost scope
  std::vector<std::unique_ptr<Names>> scopes_;
  Names* names_ = nullptr;  // of the innermost scope
};

}  // namespace

Program parse(const Source& source) { return Parser(source).run(); }

}  // namespace pith::text::jinja
