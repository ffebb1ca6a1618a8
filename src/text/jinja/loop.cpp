// SPDX-License-Identifier: MIT
#include "text/jinja/loop.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "text/jinja/operators.hpp"

namespace pith::text::jinja {

namespace {

/// The value after the current one, without going there.
const std::optional<Value>& peek(LoopData& loop) {
  if (!loop.peeked) {
    loop.following = loop.next();
    loop.peeked = true;
  }
  return loop.following;
}

std::int64_t length(Runtime& runtime, LoopData& loop) {
  if (!loop.length) {
    auto rest = std::make_shared<std::vector<Value>>();
    while (auto value = loop.next()) {
      runtime.allocate(sizeof(Value));
      rest->push_back(std::move(*value));
    }
    loop.length = loop.index + (loop.peeked && loop.following ? 1 : 0) + rest->size();
    loop.next = [rest, i = std::size_t{0}]() mutable {
      return i < rest->size() ? std::optional((*rest)[i++]) : std::nullopt;
    };
  }
  return static_cast<std::int64_t>(*loop.length);
}

Value cycle(Runtime& runtime, const Value& self, const Given& given) {
  if (!given.named.empty()) runtime.wrong("loop.cycle takes no arguments by name");
  if (given.positional.empty()) runtime.wrong("loop.cycle: expected values, found none");
  return given.positional[(self.as<Loop>()->data->index - 1) % given.positional.size()];
}

Value changed(Runtime& runtime, const Value& self, const Given& given) {
  if (!given.named.empty()) runtime.wrong("loop.changed takes no arguments by name");
  LoopData& loop = *self.as<Loop>()->data;
  for (const Value& value : given.positional)
    if (depth_of(value) > 0) runtime.unsupported("loop.changed of a value that holds others");
  const bool same = loop.changed && loop.changed->size() == given.positional.size() &&
                    std::equal(loop.changed->begin(), loop.changed->end(), given.positional.begin(),
                               [&](const Value& a, const Value& b) { return equal(runtime, a, b); });
  loop.changed = given.positional;
  return !same;
}

}  // namespace

Loop make_loop(Stream next, std::optional<std::size_t> length, int depth_of_iterable) {
  auto data = std::make_shared<LoopData>();
  data->next = std::move(next);
  data->length = length;
  data->depth = depth_of_iterable + 1;
  return {std::move(data)};
}

std::optional<Value> advance(LoopData& loop) {
  std::optional<Value> value = peek(loop);
  loop.following.reset();
  loop.peeked = false;
  if (!value) return {};
  ++loop.index;
  loop.previous = std::move(loop.current);
  loop.current = value;
  return value;
}

std::optional<Value> loop_attribute(Runtime& runtime, const Loop& self, std::string_view name) {
  LoopData& loop = *self.data;
  const auto index = static_cast<std::int64_t>(loop.index);
  if (name == "index") return index;
  if (name == "index0") return index - 1;
  if (name == "first") return index == 1;
  if (name == "last") return !peek(loop);
  if (name == "length") return length(runtime, loop);
  if (name == "revindex") return length(runtime, loop) - index + 1;
  if (name == "revindex0") return length(runtime, loop) - index;
  if (name == "previtem") return loop.previous ? *loop.previous : Runtime::undefined("there is no previous item");
  if (name == "nextitem") return peek(loop) ? *peek(loop) : Runtime::undefined("there is no next item");
  if (name == "depth") return std::int64_t{1};
  if (name == "depth0") return std::int64_t{0};
  if (name == "cycle") return Function{"cycle", cycle, std::make_shared<const Value>(self)};
  if (name == "changed") return Function{"changed", changed, std::make_shared<const Value>(self)};
  return {};
}

}  // namespace pith::text::jinja
