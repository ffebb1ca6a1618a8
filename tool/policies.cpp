// SPDX-License-Identifier: MIT
// pith policies: what can be said to --policy.
#include <cctype>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command.hpp"
#include "pith/prune/spec.hpp"

namespace pith::tool {
namespace {

using Json = nlohmann::ordered_json;

struct PoliciesOptions {
  std::string spec;  // empty: all
};

/// Is it a policy of policies?
bool takes_policy(const prune::MethodText& one) { return one.arguments.ends_with("POLICY"); }

/// As --policy takes it, with all its defaults.
std::string call(const prune::MethodText& one) {
  std::string inside = one.arguments;
  for (const prune::OptionText& option : one.options)
    inside += (inside.empty() ? "" : ",") + option.name + "=" + option.fallback;
  return inside.empty() ? one.name : one.name + "(" + inside + ")";
}

Json to_json(const prune::Needs& needs) {
  auto columns = Json::array();
  for (const Column column : needs.evidence) columns.push_back(column.name());
  return {{"gate", needs.gate},         {"decisions", needs.decisions},   {"lane_per_head", needs.lane_per_head},
          {"columns", columns},         {"window", needs.window},         {"layers", needs.layers},
          {"kv_heads", needs.kv_heads}, {"key_blocks", needs.key_blocks}, {"after_pass", needs.after_pass}};
}

Json to_json(const prune::MethodText& one) {
  auto options = Json::array();
  for (const prune::OptionText& option : one.options)
    options.push_back(
        {{"name", option.name}, {"default", option.fallback}, {"range", option.range}, {"what", option.what}});
  const bool combinator = takes_policy(one);
  return {{"name", one.name},
          {"what", one.what},
          {"paper", one.paper.empty() ? Json() : Json("arXiv " + one.paper)},
          {"acts", one.acts},
          {"combinator", combinator},
          {"arguments", one.arguments},
          {"options", options},
          {"needs", one.arguments.empty() ? to_json(prune::parse(one.name).needs()) : Json()}};
}

void print_text(const prune::MethodText& one, bool whole) {
  std::cout << call(one) << "\n    " << one.what << (one.paper.empty() ? "" : " (arXiv " + one.paper + ")")
            << "; acts: " << one.acts << '\n';
  for (const prune::OptionText& option : one.options)
    if (whole) std::cout << "    " << option.name << ": " << option.what << "; " << option.range << '\n';
}

/// Is it one of the words of a spec?
bool names(const std::string& spec, const std::string& name) {
  const auto is_letter = [&](std::size_t i) {
    return i < spec.size() && (std::isalnum(static_cast<unsigned char>(spec[i])) != 0 || spec[i] == '_');
  };
  for (std::size_t at = spec.find(name); at != std::string::npos; at = spec.find(name, at + 1))
    if ((at == 0 || !is_letter(at - 1)) && !is_letter(at + name.size())) return true;
  return false;
}

Exit policies(const PoliciesOptions& options, const Tool& tool) {
  auto all = prune::catalogue();
  Json report;
  if (!options.spec.empty()) {
    // What needs more to be said is explained, too, though it is no policy yet.
    const bool incomplete = std::ranges::any_of(
        all, [&](const prune::MethodText& one) { return one.name == options.spec && !one.arguments.empty(); });
    if (!incomplete) {
      const prune::AnyPolicy policy = prune::parse(options.spec);
      report = {{"policy", policy.describe()}, {"needs", to_json(policy.needs())}};
    }
    std::erase_if(all, [&](const prune::MethodText& one) { return !names(options.spec, one.name); });
  }
  report["policies"] = Json::array();
  for (const prune::MethodText& one : all) report["policies"].push_back(to_json(one));
  if (tool.json) {
    print(report);
    return Exit::ok;
  }
  if (report.contains("policy")) std::cout << report["policy"].get<std::string>() << "\n\n";
  for (const prune::MethodText& one : all) print_text(one, !options.spec.empty());
  if (options.spec.empty())
    std::cout << "\nA chain is what stands between commas, in the order in which it acts: gate,h2o(rows=2048).\n"
                 "`pith policies SPEC` says what one means.\n";
  return Exit::ok;
}

}  // namespace

void add_policies(CLI::App& app, Tool& tool) {
  auto [command, options] =
      add_command<PoliciesOptions>(app, tool, "policies", "What can be said to --policy", policies);
  command.add_option("spec", options.spec, "A policy, to be explained with its options")->type_name("SPEC");
}

}  // namespace pith::tool
