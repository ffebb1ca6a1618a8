// SPDX-License-Identifier: MIT
#include "pith/prune/spec.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "numbers.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/protect.hpp"
#include "pith/prune/worth.hpp"

namespace pith::prune {

namespace {

template <class T>
std::string shortest(T number) {
  char digits[64];
  return {digits, std::to_chars(digits, digits + sizeof digits, number).ptr};
}

/// One step as written: a name, its options, and the steps of the policy that it applies.
struct Call {
  std::string name;
  std::map<std::string, std::string, std::less<>> options = {};
  std::vector<std::string_view> steps = {};
  float tau = 0;

  [[noreturn]] void refuse(std::string_view option, std::string_view expected, std::string_view found) const {
    fail(ErrorCode::argument, "policy: " + name + "(" + std::string(option) + "=)", expected,
         "'" + std::string(found) + "'");
  }

  /// Takes an option out that must be there.
  std::string take(std::string_view key) {
    const auto found = options.find(key);
    if (found == options.end())
      fail(ErrorCode::argument, "policy: " + name, "the option " + std::string(key) + "=", "none");
    std::string text = std::move(found->second);
    options.erase(found);
    return text;
  }

  /// Takes a number out; `fallback` where it was not given.
  template <class T>
  T take(std::string_view key, T fallback, const Range<T>& range) {
    if (!options.contains(key)) return fallback;
    const std::string text = take(key);
    const std::optional<T> value = number(text, range);
    if (!value) refuse(key, range.text(), text);
    return *value;
  }

  AnyPolicy policy();
};

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

/// Splits at commas outside parentheses.
std::vector<std::string_view> split(std::string_view text) {
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
  if (depth != 0) fail(ErrorCode::argument, "policy '" + std::string(text) + "'", "matching parentheses", "others");
  return parts;
}

/// The parts of a list joined by '+'.
std::vector<std::string_view> items(std::string_view text) {
  std::vector<std::string_view> all;
  while (true) {
    const auto plus = text.find('+');
    all.push_back(text.substr(0, plus));
    if (plus == std::string_view::npos) return all;
    text.remove_prefix(plus + 1);
  }
}

/// No model has as many layers or heads; what is read is an index into a list.
constexpr Range<std::size_t> indices{0, 65535};

bool read_index(std::string_view text, std::size_t& index) {
  const std::optional<std::size_t> value = number(text, indices);
  index = value.value_or(0);
  return value.has_value();
}

AnyPolicy for_layers_of(Call& c) {
  const std::string text = c.take("layers");
  const auto dash = text.find('-');
  std::size_t first = 0, last = 0;
  const bool well = dash == std::string::npos
                        ? read_index(text, first) && read_index(text, last)
                        : read_index(std::string_view(text).substr(0, dash), first) &&
                              read_index(std::string_view(text).substr(dash + 1), last) && first <= last;
  if (!well) c.refuse("layers", "a layer or a range such as 0-3, each " + indices.text(), text);
  return for_layers(first, last + 1, c.policy());
}

AnyPolicy for_heads_of(Call& c) {
  const std::string text = c.take("heads");
  const bool by_layer = text.find('.') != std::string::npos;
  std::vector<std::vector<std::size_t>> heads(1);
  for (const std::string_view item : items(text)) {
    const auto dot = item.find('.');
    std::size_t layer = 0, head = 0;
    const bool well = by_layer == (dot != std::string_view::npos) &&
                      (!by_layer || read_index(item.substr(0, dot), layer)) &&
                      read_index(by_layer ? item.substr(dot + 1) : item, head);
    if (!well) c.refuse("heads", "heads such as 0+2, or layer.head such as 1.0+4.2, each " + indices.text(), text);
    if (layer >= heads.size()) heads.resize(layer + 1);
    heads[layer].push_back(head);
  }
  return by_layer ? for_heads(std::span<const std::vector<std::size_t>>(heads), c.policy())
                  : for_heads(heads[0], c.policy());
}

/// Takes a method's options out.
template <HasOptions O>
O take_options(Call& c) {
  O o;
  if constexpr (requires { o.tau; }) o.tau = c.tau;
  for_each_option<O>([&]<class T>(const Option<O, T>& option) {
    o.*option.number = c.take(option.name, o.*option.number, Range<T>{option.least, option.most});
  });
  return o;
}

template <HasOptions O>
void list_options(std::vector<OptionText>& all) {
  const O o;
  for_each_option<O>([&]<class T>(const Option<O, T>& option) {
    all.push_back({std::string(option.name), shortest(o.*option.number), Range<T>{option.least, option.most}.text(),
                   std::string(option.what)});
  });
}

/// A function of options as what makes it of text.
template <auto make>
struct Maker;
template <class... O, AnyPolicy (*make)(const O&...)>
struct Maker<make> {
  static AnyPolicy read(Call& c) { return make(take_options<O>(c)...); }
  static void list(std::vector<OptionText>& all) { (list_options<O>(all), ...); }
};

struct Named {
  std::string_view name;
  AnyPolicy (*make)(Call&);
  std::string_view paper, what, acts;
  void (*list)(std::vector<OptionText>&) = nullptr;
  std::string_view arguments = {};
  bool by_prompts = false;  // it acts otherwise within a prompt than behind
};

template <auto make>
constexpr Named method(std::string_view name, std::string_view paper, std::string_view what, std::string_view acts) {
  return {name, Maker<make>::read, paper, what, acts, Maker<make>::list};
}

constexpr std::string_view never_acts = "never", every_token = "every token", every_pass = "every pass",
                           prompts_end = "end of a prompt", as_its_policy = "as its policy does";

AnyPolicy protect_of(Call& c) {
  const HeadScores heads = HeadScores::read(c.take("file"));
  const auto options = take_options<ProtectOptions>(c);
  return protect(heads, options, c.policy());
}

AnyPolicy duo_of(Call& c) {
  const HeadScores heads = HeadScores::read(c.take("file"));
  const auto options = take_options<ProtectOptions>(c);
  return duo(heads, options, take_options<DuoOptions>(c));
}

AnyPolicy worth_gate_of(Call& c) {
  Prefill prefill = Prefill::dense;
  if (c.options.contains("prefill")) {
    const std::string text = c.take("prefill");
    if (text != "dense" && text != "sparse") c.refuse("prefill", "dense or sparse", text);
    if (text == "sparse") prefill = Prefill::sparse;
  }
  const std::string file = c.take("file");
  const auto options = take_options<WorthGateOptions>(c);
  return worth_gate(WorthGates::read(file), options, prefill);
}

template <class... O>
void list_all(std::vector<OptionText>& all) {
  (list_options<O>(all), ...);
}

void list_worth_gate(std::vector<OptionText>& all) {
  all.push_back(
      {"prefill", "dense", "dense or sparse", "whether a prompt sees all of itself, or forgets as it is read"});
  list_all<WorthGateOptions>(all);
}

/// What scripts can name is a line here.
constexpr Named names[] = {
    method<none>("none", "", "forgets nothing", never_acts),
    method<learned_gate>("gate", "2305.15805", "the model's own learned gate", every_token),
    method<dms>("dms", "2506.05345", "what the model was taught to decide of each token", every_token),
    method<streaming>("streaming", "2309.17453", "the first and the latest tokens", every_token),
    method<h2o>("h2o", "2306.14048", "most attention so far", every_pass),
    method<tova>("tova", "2401.06104", "most attention from the last query, a verdict per layer", every_pass),
    method<lra>("lra", "2401.04881", "most recently attended to, a verdict per layer", every_pass),
    method<lfa>("lfa", "2401.04881", "most often attended to, a verdict per layer", every_pass),
    method<rkv>("rkv", "2505.24133", "most attention from the latest queries, and no key twice", every_pass),
    method<snapkv>("snapkv", "2404.14469", "most attention from the prompt's end", prompts_end),
    method<fastkv>("fastkv", "2502.01068", "SnapKV, and past half of the layers a prompt's best tokens alone",
                   prompts_end),
    method<pyramidinfer>("pyramidinfer", "2405.12532", "from layer to layer fewer of a prompt's tokens", prompts_end),
    method<adakv>("adakv", "2407.11550", "SnapKV whose kv-heads share their rows", prompts_end),
    method<pyramidkv>("pyramidkv", "2406.02069", "SnapKV with more rows in lower layers", prompts_end),
    method<criticalkv>("criticalkv", "2502.03805", "SnapKV, half of it by what values come to in the output",
                       prompts_end),
    method<defensivekv>("defensivekv", "2510.13334", "the most that one query of the prompt's end attends",
                        prompts_end),
    method<layer_defensivekv>("layer_defensivekv", "2510.13334", "DefensiveKV whose rows all layers share",
                              prompts_end),
    method<d2o>("d2o", "2406.13035", "H2O by layer, folding what leaves into what is like it",
                "end of a prompt, then every pass"),
    method<expected_attention>("expected_attention", "2510.00636", "what queries to come can be expected to attend to",
                               prompts_end),
    method<leverage>("leverage", "2507.08143", "keys that stand out", prompts_end),
    method<compactor>("compactor", "2507.08143", "keys that stand out, and attention within blocks", prompts_end),
    method<keydiff>("keydiff", "2504.15364", "keys unlike the others", every_pass),
    method<knorm>("knorm", "2406.11430", "shortest keys", every_pass),
    method<curdkv>("curdkv", "2509.15038", "long keys and values among neighbours", prompts_end),
    method<lagkv>("lagkv", "2504.04704", "strangest to the part that follows", prompts_end),
    method<think>("think", "2407.21018", "keys keep the channels that queries meet most", prompts_end),
    method<simlayerkv>("simlayerkv", "2410.13846", "lazy layers keep sinks and recent tokens", prompts_end),
    {"worth_gate", worth_gate_of, "2601.07891", "what a gate on a token's own state says is worth little", every_token,
     list_worth_gate, "file=FILE", true},
    {"duo", duo_of, "2410.10819", "the best kv-heads by a file keep all, the others first and latest tokens",
     every_token, list_all<ProtectOptions, DuoOptions>, "file=FILE"},
    {"protect", protect_of, "2404.15574", "the best kv-heads by a file keep all, the others forget", as_its_policy,
     list_all<ProtectOptions>, "file=FILE,POLICY"},
    {"chain", [](Call& c) { return c.policy(); }, "", "these in turn, each on what those before it left", as_its_policy,
     nullptr, "POLICY,POLICY"},
    {"on_prefill", [](Call& c) { return on_prefill(c.policy()); }, "", "acts on prompts, not in decoding",
     as_its_policy, nullptr, "POLICY", true},
    {"per_head", [](Call& c) { return per_head(c.policy()); }, "", "every kv-head forgets for itself", as_its_policy,
     nullptr, "POLICY"},
    {"for_layers", for_layers_of, "", "acts in these layers alone", as_its_policy, nullptr, "layers=0-3,POLICY"},
    {"for_heads", for_heads_of, "", "acts on these kv-heads alone, in all layers or by layer", as_its_policy, nullptr,
     "heads=0+2 or 1.0+4.2,POLICY"},
};

Call parse_call(std::string_view step, float tau) {
  const auto open = step.find('(');
  Call call{.name = std::string(trim(step.substr(0, open))), .tau = tau};
  if (open == std::string_view::npos) return call;
  if (step.back() != ')')
    fail(ErrorCode::argument, "policy '" + std::string(step) + "'", "')' at the end of its options", "more text");
  const std::string_view inside = trim(step.substr(open + 1, step.size() - open - 2));
  if (inside.empty()) return call;
  for (const std::string_view argument : split(inside)) {
    const auto equals = argument.find('=');
    if (equals > argument.find('(') || equals == std::string_view::npos) {
      call.steps.push_back(argument);
      continue;
    }
    const auto [at, fresh] = call.options.emplace(trim(argument.substr(0, equals)), trim(argument.substr(equals + 1)));
    if (!fresh)
      fail(ErrorCode::argument, "policy '" + std::string(step) + "'", "each option once", at->first + " twice");
  }
  return call;
}

AnyPolicy parse_steps(std::span<const std::string_view> steps, float tau) {
  std::vector<AnyPolicy> all;
  for (const std::string_view step : steps) {
    Call call = parse_call(step, tau);
    const auto* const found = std::ranges::find(names, call.name, &Named::name);
    if (found == std::end(names)) {
      std::string known;
      for (const Named& one : names) known.append(known.empty() ? "" : ", ").append(one.name);
      fail(ErrorCode::argument, "policy", "one of " + known, "'" + call.name + "'");
    }
    all.push_back(found->make(call));
    if (!call.options.empty())
      fail(ErrorCode::argument, "policy " + call.name, "options it has", "'" + call.options.begin()->first + "'");
    if (!call.steps.empty())
      fail(ErrorCode::argument, "policy " + call.name, "option=value", "'" + std::string(call.steps.front()) + "'");
  }
  return chain(std::move(all));
}

bool look_back_alone(std::span<const std::string_view> steps) {
  return std::ranges::all_of(steps, [](std::string_view step) {
    const Call call = parse_call(step, 0);
    const auto* const found = std::ranges::find(names, call.name, &Named::name);
    if (found == std::end(names) || found->by_prompts) return false;
    if (found->acts != never_acts && found->acts != every_token && found->acts != as_its_policy) return false;
    return look_back_alone(call.steps);
  });
}

/// Takes out the policy that a combinator applies.
AnyPolicy Call::policy() {
  if (steps.empty()) fail(ErrorCode::argument, "policy: " + name, "the policy that it applies", "none");
  const auto inner = std::exchange(steps, {});
  return parse_steps(inner, tau);
}

}  // namespace

SpelledOption::SpelledOption(std::string_view option, int number) : name(option), value(shortest(number)) {}
SpelledOption::SpelledOption(std::string_view option, float number) : name(option), value(shortest(number)) {}

std::string spell(std::string_view name, std::initializer_list<SpelledOption> options, std::string_view policy) {
  std::string inside;
  for (const SpelledOption& option : options)
    inside.append(inside.empty() ? "" : ",").append(option.name).append("=").append(option.value);
  if (!policy.empty()) inside.append(inside.empty() ? "" : ",").append(policy);
  return std::string(name) + "(" + inside + ")";
}

std::vector<MethodText> catalogue() {
  std::vector<MethodText> all;
  for (const Named& one : names) {
    MethodText& text = all.emplace_back();
    text.name = one.name;
    text.paper = one.paper;
    text.what = one.what;
    text.acts = one.acts;
    text.arguments = one.arguments;
    if (one.list != nullptr) one.list(text.options);
  }
  return all;
}

bool looks_back_alone(const AnyPolicy& policy) {
  const std::string spec = policy.describe();
  try {
    return look_back_alone(split(spec));
  } catch (const Error&) {  // a caller's own, which says what it likes
    return false;
  }
}

AnyPolicy parse(std::string_view spec, float tau) { return parse_steps(split(trim(spec)), tau); }

}  // namespace pith::prune
