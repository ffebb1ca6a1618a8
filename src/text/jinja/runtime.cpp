// SPDX-License-Identifier: MIT
#include "text/jinja/runtime.hpp"

#include <algorithm>

namespace pith::text::jinja {

namespace {

std::string more_than(std::string_view what, std::size_t most) {
  return "expected a template that takes at most " + std::to_string(most) + " " + std::string(what) + ", found more";
}

}  // namespace

void Runtime::work(std::size_t n) {
  work_ += std::min(n, limits_.work + 1);
  if (work_ > limits_.work) fail(ErrorCode::unsupported, more_than("steps", limits_.work));
}

void Runtime::allocate(std::size_t bytes) {
  bytes_ += std::min(bytes, limits_.bytes + 1);
  if (bytes_ > limits_.bytes) fail(ErrorCode::unsupported, more_than("bytes of memory", limits_.bytes));
}

void Runtime::check_text(std::size_t bytes) const {
  if (bytes > limits_.text) fail(ErrorCode::unsupported, more_than("bytes for a text", limits_.text));
}

int Runtime::nested(int depth) const {
  if (depth > limits_.nesting)
    fail(ErrorCode::unsupported, more_than("values within each other", static_cast<std::size_t>(limits_.nesting)));
  return depth;
}

Value Runtime::text(Text text) {
  check_text(text.size());
  allocate(text.size() + sizeof(Text));
  work(text.size() / 256);
  return String{std::make_shared<const Text>(std::move(text))};
}

std::shared_ptr<const Items> Runtime::items(std::vector<Value> values) {
  allocate(values.size() * sizeof(Value));
  int depth = 0;
  for (const Value& value : values) depth = std::max(depth, depth_of(value));
  return std::make_shared<const Items>(Items{std::move(values), nested(depth + 1)});
}

Value Runtime::list(std::vector<Value> values) { return List{items(std::move(values))}; }

Value Runtime::tuple(std::vector<Value> values) { return Tuple{items(std::move(values))}; }

Value Runtime::dict(std::vector<std::pair<Value, Value>> pairs) {
  allocate(pairs.size() * 2 * sizeof(Value));
  int depth = 0;
  for (const auto& [key, value] : pairs) depth = std::max({depth, depth_of(key), depth_of(value)});
  return Dict{std::make_shared<const Pairs>(Pairs{std::move(pairs), nested(depth + 1)})};
}

Value Runtime::iterator(Stream next, int depth_of_source) {
  return Iterator{std::make_shared<Stream>(std::move(next)), nested(depth_of_source + 1)};
}

Value Runtime::new_namespace(std::vector<std::pair<std::string, Value>> values) {
  allocate(sizeof(NamespaceData) + values.size() * sizeof(Value));
  namespaces_.push_back(std::make_unique<NamespaceData>(NamespaceData{std::move(values)}));
  return Namespace{namespaces_.back().get()};
}

Value Runtime::undefined(std::string why) { return Undefined{std::make_shared<const std::string>(std::move(why))}; }

Runtime::Level::Level(Runtime& runtime) : runtime_(runtime) {
  runtime.work();
  if (runtime.depth_ >= runtime.limits_.depth)
    runtime.fail(ErrorCode::unsupported,
                 more_than("levels of calls within each other", static_cast<std::size_t>(runtime.limits_.depth)));
  ++runtime.depth_;
}

}  // namespace pith::text::jinja
