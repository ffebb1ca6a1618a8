// SPDX-License-Identifier: MIT
// One rendering: where it stands in the source, what it may still spend, and the makers of values, which count it.
#pragma once

#include <cstddef>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/source.hpp"
#include "text/jinja/value.hpp"

namespace pith::text::jinja {

/// A template may come from anywhere: it ends in an Error (unsupported) before it takes more than this.
struct Limits {
  std::size_t work = 20'000'000;               // expressions, loop iterations, comparisons, 256 bytes of text
  std::size_t bytes = std::size_t{512} << 20;  // of all values made, texts and lists
  std::size_t text = std::size_t{64} << 20;    // of one text, the output too
  int depth = 800;                             // of statements, expressions and macro calls within each other
  int nesting = 100;                           // of lists and dicts within each other
};

class Runtime {
 public:
  Runtime(const Source& source, const std::tm& now, const Limits& limits)
      : source_(source), now_(now), limits_(limits) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  std::size_t offset = 0;  // in the source, of what is being evaluated

  const std::tm& now() const { return now_; }

  /// Errors at `offset`.
  [[noreturn]] void fail(ErrorCode code, std::string_view message) const { source_.fail(code, offset, message); }
  [[noreturn]] void wrong(std::string_view message) const { fail(ErrorCode::format, message); }
  [[noreturn]] void unsupported(const std::string& what) const {
    fail(ErrorCode::unsupported, what + " is not supported");
  }

  void work(std::size_t n = 1);
  void allocate(std::size_t bytes);          // before that many are made
  void check_text(std::size_t bytes) const;  // throws where a text would be longer than one may be

  Value text(Text text);
  Value text(std::string bytes, Origin origin = Origin::of_template) { return text(Text(std::move(bytes), origin)); }
  Value list(std::vector<Value> values);
  Value tuple(std::vector<Value> values);
  Value dict(std::vector<std::pair<Value, Value>> pairs);  // keys differ
  Value iterator(Stream next, int depth_of_source);
  Value new_namespace(std::vector<std::pair<std::string, Value>> values);
  static Value undefined(std::string why);

  /// For the length of an expression, a statement or a call.
  class Level {
   public:
    explicit Level(Runtime& runtime);
    ~Level() { --runtime_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Runtime& runtime_;
  };

 private:
  std::shared_ptr<const Items> items(std::vector<Value> values);
  int nested(int depth) const;

  const Source& source_;
  std::tm now_;
  Limits limits_;
  std::size_t work_ = 0, bytes_ = 0;
  int depth_ = 0;
  std::vector<std::unique_ptr<NamespaceData>> namespaces_;  // they may hold each other, and so none owns another
};

}  // namespace pith::text::jinja
