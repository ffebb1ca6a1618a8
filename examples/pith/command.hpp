// SPDX-License-Identifier: MIT
// The subcommands, and how one is put on the command line.
#pragma once

#include <CLI/CLI.hpp>
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
inline void add_common_flags(CLI::App& app, Tool& tool) {
  app.add_flag("--json", tool.json, "One JSON object on stdout");
  app.add_option("--isa", tool.isa, "Force an instruction set: scalar, avx2, avx512, neon")->type_name("NAME");
  app.add_flag_callback(
      "-v,--verbose", [&tool] { tool.verbosity = Verbosity::verbose; }, "Say more on stderr");
  app.add_flag_callback(
      "-q,--quiet", [&tool] { tool.verbosity = Verbosity::quiet; }, "Only errors on stderr");
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
  CLI::App& command = *app.add_subcommand(name, description);
  add_common_flags(command, tool);
  auto options = std::make_shared<Options>();
  command.callback([&tool, options, run] { tool.command = [&tool, options, run] { return run(*options, tool); }; });
  return {command, *options};
}

}  // namespace pith::tool
