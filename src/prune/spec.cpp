// SPDX-License-Identifier: MIT
#include "pith/prune/spec.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>

#include "pith/prune/methods.hpp"

namespace pith::prune {

namespace {

/// One method as written: a name and its options.
struct Call {
  std::string name;
  std::map<std::string, std::string, std::less<>> options;

  /// Takes an option out; `fallback` where it was not given.
  template <class T>
  T take(std::string_view key, T fallback) {
    const auto found = options.find(key);
    if (found == options.end()) return fallback;
    const std::string text = found->second;
    options.erase(found);
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      fail(ErrorCode::argument, "policy: " + name + "(" + std::string(key) + "=)", "a number", "'" + text + "'");
    return value;
  }
};

using Make = AnyPolicy (*)(Call&, float tau);

/// A method that scripts can name is a line here.
constexpr std::pair<std::string_view, Make> methods[] = {
    {"gate", [](Call& c, float tau) -> AnyPolicy { return learned_gate({.tau = c.take("tau", tau)}); }},
    {"streaming",
     [](Call& c, float) -> AnyPolicy {
       const StreamingOptions o;
       return streaming({.sinks = c.take("sinks", o.sinks), .recent = c.take("recent", o.recent)});
     }},
    {"h2o",
     [](Call& c, float) -> AnyPolicy {
       const H2oOptions o;
       return h2o({.rows = c.take("rows", o.rows), .recent = c.take("recent", o.recent)});
     }},
    {"snapkv",
     [](Call& c, float) -> AnyPolicy {
       const SnapKvOptions o;
       return snapkv(
           {.rows = c.take("rows", o.rows), .window = c.take("window", o.window), .pool = c.take("pool", o.pool)});
     }},
};

std::string names() {
  std::string all = "none";
  for (const auto& [name, make] : methods) all.append(", ").append(name);
  return all;
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

/// Splits at top-level commas: those outside parentheses.
std::vector<std::string_view> split(std::string_view text, std::string_view whole) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      parts.push_back(trim(text.substr(begin, i - begin)));
      begin = i + 1;
    } else if (text[i] == '(') {
      ++depth;
    } else if (text[i] == ')' && --depth < 0) {
      break;
    }
  }
  if (depth != 0) fail(ErrorCode::argument, "policy '" + std::string(whole) + "'", "matching parentheses", "others");
  return parts;
}

Call parse_call(std::string_view part) {
  const auto open = part.find('(');
  Call call{std::string(trim(part.substr(0, open))), {}};
  if (open == std::string_view::npos) return call;
  if (part.back() != ')')
    fail(ErrorCode::argument, "policy '" + std::string(part) + "'", "')' at the end of its options", "more text");
  const std::string_view inside = trim(part.substr(open + 1, part.size() - open - 2));
  if (inside.empty()) return call;
  for (const std::string_view option : split(inside, part)) {
    const auto equals = option.find('=');
    if (equals == std::string_view::npos)
      fail(ErrorCode::argument, "policy '" + std::string(part) + "'", "option=value", "'" + std::string(option) + "'");
    const auto [at, fresh] = call.options.emplace(trim(option.substr(0, equals)), trim(option.substr(equals + 1)));
    if (!fresh)
      fail(ErrorCode::argument, "policy '" + std::string(part) + "'", "each option once", at->first + " twice");
  }
  return call;
}

}  // namespace

AnyPolicy parse(std::string_view spec, float tau) {
  if (trim(spec) == "none") return none();
  std::optional<AnyPolicy> all;
  for (const std::string_view part : split(trim(spec), spec)) {
    Call call = parse_call(part);
    const auto* found = std::find_if(std::begin(methods), std::end(methods),
                                     [&](const auto& method) { return method.first == call.name; });
    if (found == std::end(methods)) fail(ErrorCode::argument, "policy", "one of " + names(), "'" + call.name + "'");
    AnyPolicy next = found->second(call, tau);
    if (!call.options.empty())
      fail(ErrorCode::argument, "policy " + call.name, "options it has", "'" + call.options.begin()->first + "'");
    all = all ? AnyPolicy(chain(*std::move(all), std::move(next))) : std::move(next);
  }
  return *all;
}

}  // namespace pith::prune
