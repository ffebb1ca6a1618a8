// SPDX-License-Identifier: MIT
#include "text/pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstdint>
#include <type_traits>

#include "pith/error.hpp"
#include "printable.hpp"
#include "text/unicode.hpp"

namespace pith::text {

namespace {

constexpr std::size_t longest_expression = 1u << 16;
constexpr std::uint32_t match_limit = 50'000'000;
constexpr std::uint32_t heap_limit_kib = 256 * 1024;
constexpr std::size_t jit_stack_start = 32 * 1024, jit_stack_most = 16 * 1024 * 1024;

template <auto release>
struct Release {
  template <class T>
  void operator()(T* p) const {
    release(p);
  }
};
using Code = std::unique_ptr<pcre2_code, Release<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Release<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Release<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Release<pcre2_jit_stack_free>>;

template <class Owner>
Owner checked(typename Owner::pointer p) {
  if (p == nullptr) throw std::bad_alloc();
  return Owner(p);
}

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR pointer(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct Regex::Compiled {
  Code code;
  std::string expression;
};

Regex::Regex(std::string_view expression, std::string_view where) {
  const std::string what = std::string(where) + ": regular expression " + in_quotes(expression);
  if (!is_utf8(expression)) fail(ErrorCode::format, what, "UTF-8", "other bytes");
  const auto context = checked<CompileContext>(pcre2_compile_context_create(nullptr));
  pcre2_set_max_pattern_length(context.get(), longest_expression);

  int error = 0;
  PCRE2_SIZE position = 0;
  auto compiled = std::make_shared<Compiled>();
  compiled->code.reset(pcre2_compile(pointer(expression), expression.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &position,
                                     context.get()));
  if (compiled->code == nullptr)
    fail(ErrorCode::format, what, "one that PCRE2 can compile",
         message_of(error) + " at byte " + std::to_string(position));
  // Where there is no just-in-time compiler, the interpreter gives the same answers, slower.
  pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE);
  compiled->expression = expression;
  compiled_ = std::move(compiled);
}

struct Finder::Workspace {
  explicit Workspace(const pcre2_code* code)
      : context(checked<MatchContext>(pcre2_match_context_create(nullptr))),
        data(checked<MatchData>(pcre2_match_data_create_from_pattern(code, nullptr))) {
    pcre2_set_match_limit(context.get(), match_limit);
    pcre2_set_heap_limit(context.get(), heap_limit_kib);
  }

  /// A match from byte `from` on; more stack for compiled code, and the interpreter, only where needed.
  int match(const pcre2_code* code, std::string_view text, std::size_t from) {
    const auto attempt = [&](std::uint32_t options) {
      return pcre2_match(code, pointer(text), text.size(), from, PCRE2_NO_UTF_CHECK | options, data.get(),
                         context.get());
    };
    int result = attempt(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT && stack == nullptr) {
      stack = checked<JitStack>(pcre2_jit_stack_create(jit_stack_start, jit_stack_most, nullptr));
      pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      result = attempt(0);
    }
    return result == PCRE2_ERROR_JIT_STACKLIMIT ? attempt(PCRE2_NO_JIT) : result;
  }

  JitStack stack;
  MatchContext context;
  MatchData data;
};

Finder::Finder(const Pattern& pattern) : pattern_(pattern) {
  if (const auto* regex = std::get_if<Regex>(&pattern_))
    workspace_ = std::make_unique<Workspace>(regex->compiled_->code.get());
}

Finder::~Finder() = default;

const std::vector<Range>& Finder::find_all(std::string_view text) {
  found_.clear();
  std::visit([&](const auto& what) { find(what, text); }, pattern_);
  return found_;
}

void Finder::find(const std::string& literal, std::string_view text) {
  for (auto at = text.find(literal); at != text.npos; at = text.find(literal, at + literal.size()))
    found_.push_back({at, at + literal.size()});
}

void Finder::find(CharacterTest test, std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Character c = first_character(text.substr(at));
    if (test(c.code)) found_.push_back({at, at + c.bytes});
    at += c.bytes;
  }
}

void Finder::find(const Regex& regex, std::string_view text) {
  const pcre2_code* code = regex.compiled_->code.get();
  for (std::size_t from = 0; from <= text.size();) {
    const int result = workspace_->match(code, text, from);
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0)
      fail(ErrorCode::argument, "a text of " + std::to_string(text.size()) + " bytes",
           "one that " + in_quotes(regex.compiled_->expression) + " can split", message_of(result));

    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(workspace_->data.get());
    const Range match{bounds[0], bounds[1]};
    const std::size_t last_end = found_.empty() ? 0 : found_.back().end;
    if (match.begin > match.end || match.end > text.size() || match.begin < last_end)
      fail(ErrorCode::format, in_quotes(regex.compiled_->expression), "matches one behind the other",
           "\\K that makes them overlap");
    // A match of no length right behind another is none; after one, the search goes on a character further.
    const bool repeated = match.size() == 0 && !found_.empty() && match.begin == last_end;
    if (!repeated) found_.push_back(match);
    from = match.end;
    if (match.size() == 0) from += from < text.size() ? first_character(text.substr(from)).bytes : 1;
  }
}

std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content) {
  Finder finder(pattern);
  std::string out;
  std::size_t done = 0;
  for (const Range match : finder.find_all(text)) {
    out.append(text.substr(done, match.begin - done)).append(content);
    done = match.end;
  }
  return out.append(text.substr(done));
}

}  // namespace pith::text
