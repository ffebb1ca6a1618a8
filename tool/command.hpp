// SPDX-License-Identifier: MIT
// The subcommands, and how one is put on the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <limits>
#include <memory>

#include "tool.hpp"

namespace pith::tool {

void add_run(CLI::App& app, Tool& tool);
void add_eval(CLI::App& app, Tool& tool);
void add_perplexity(CLI::App& app, Tool& tool);
void add_tokenize(CLI::App& app, Tool& tool);
void add_detokenize(CLI::App& app, Tool& tool);
void add_inspect(CLI::App& app, Tool& tool);
void add_bench(CLI::App& app, Tool& tool);
void add_quantize(CLI::App& app, Tool& tool);
void add_trace(CLI::App& app, Tool& tool);

/// The flags that the program and all its subcommands have.
void add_common_flags(CLI::App& app, Tool& tool);

/// A subcommand with those flags.
CLI::App& add_subcommand(CLI::App& app, Tool& tool, const char* name, const char* description);
/// Has tool.command set to this once the whole command line is read.
void on_parsed(CLI::App& command, Tool& tool, std::function<Exit()> run);

/// A check for whole numbers; the help does not spell it out.
template <class Number>
CLI::Validator at_least(Number least) {
  return CLI::Range(least, std::numeric_limits<Number>::max()).description("");
}

template <class Options>
struct Command {
  CLI::App& app;
  Options& options;  // to be bound to the flags
};

/// Adds a subcommand: run(options, tool) is called once the whole command line is read.
template <class Options>
Command<Options> add_command(CLI::App& app, Tool& tool, const char* name, const char* description,
                             Exit (*run)(const Options&, const Tool&)) {
  CLI::App& command = add_subcommand(app, tool, name, description);
  auto options = std::make_shared<Options>();
  on_parsed(command, tool, [&tool, options, run] { return run(*options, tool); });
  return {command, *options};
}

}  // namespace pith::tool
