// SPDX-License-Identifier: MIT
// On nlohmann's event parser: its own values would sort the keys, and a template may print them.
#include "text/jinja/data.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "printable.hpp"
#include "text/jinja/operators.hpp"

namespace pith::text::jinja {

namespace {

class Builder {
 public:
  Builder(Runtime& runtime, std::string_view where) : runtime_(runtime), where_(where) {}

  Value take() { return std::move(root_); }

  // The names, signatures and "go on?" results below are those of nlohmann::json_sax.
  bool null() { return put(None{}); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(std::int64_t value) { return put(value); }
  bool number_unsigned(std::uint64_t value) {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) too_large(std::to_string(value));
    return put(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& text) {
    // What does not fit an integer arrives here, too.
    if (text.find_first_of(".eE") == text.npos) too_large(text);
    return put(value);
  }
  bool string(std::string& value) { return put(runtime_.text(std::move(value), Origin::of_data)); }
  bool binary(nlohmann::json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(true); }
  bool start_array(std::size_t) { return open(false); }
  bool key(std::string& name) {
    open_.back().key = runtime_.text(std::move(name), Origin::of_data);
    return true;
  }
  bool end_object() {
    auto pairs = std::move(open_.back().pairs);
    open_.pop_back();
    return put(dict_of(runtime_, std::move(pairs)));
  }
  bool end_array() {
    auto values = std::move(open_.back().values);
    open_.pop_back();
    return put(runtime_.list(std::move(values)));
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
    std::string_view what = error.what();
    if (const auto end = what.find("] "); end != what.npos) what.remove_prefix(end + 2);  // "[json.exception.…] "
    pith::fail(ErrorCode::argument, where_, "JSON", "at byte " + std::to_string(position) + ": " + printable(what));
  }

 private:
  struct Container {
    bool is_object = false;
    Value key;
    std::vector<Value> values;
    std::vector<std::pair<Value, Value>> pairs;
  };

  [[noreturn]] void too_large(const std::string& text) const {
    pith::fail(ErrorCode::unsupported, where_, "numbers of 64 bits", printable(text));
  }

  bool put(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().pairs.emplace_back(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().values.push_back(std::move(value));
    }
    return true;
  }

  bool open(bool is_object) {
    constexpr std::size_t deepest = 64;
    if (open_.size() == deepest)
      pith::fail(ErrorCode::argument, where_, "JSON nested at most " + std::to_string(deepest) + " deep",
                 "deeper nesting");
    open_.push_back({is_object, {}, {}, {}});
    return true;
  }

  Runtime& runtime_;
  std::string where_;
  Value root_;
  std::vector<Container> open_;
};

}  // namespace

Value read_data(Runtime& runtime, std::string_view json, std::string_view where) {
  // nlohmann takes a zero byte for the end of the text and would not look at what follows.
  if (const auto zero = json.find('\0'); zero != json.npos)
    pith::fail(ErrorCode::argument, where, "JSON", "a zero byte at byte " + std::to_string(zero));
  Builder builder(runtime, where);
  nlohmann::json::sax_parse(json, &builder);
  return builder.take();
}

}  // namespace pith::text::jinja
