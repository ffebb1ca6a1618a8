// SPDX-License-Identifier: MIT
#include "command.hpp"

#include <utility>

namespace pith::tool {

void add_common_flags(CLI::App& app, Tool& tool) {
  app.add_flag("--json", tool.json, "One JSON object on stdout");
  app.add_option("--isa", tool.isa, "Force an instruction set: scalar, avx2, avx512, neon")->type_name("NAME");
  app.add_flag_callback(
      "-v,--verbose", [&tool] { tool.verbosity = Verbosity::verbose; }, "Say more on stderr");
  app.add_flag_callback(
      "-q,--quiet", [&tool] { tool.verbosity = Verbosity::quiet; }, "Only errors on stderr");
}

CLI::App& add_subcommand(CLI::App& app, Tool& tool, const char* name, const char* description) {
  CLI::App& command = *app.add_subcommand(name, description);
  add_common_flags(command, tool);
  return command;
}

void on_parsed(CLI::App& command, Tool& tool, std::function<Exit()> run) {
  command.callback([&tool, run = std::move(run)] { tool.command = run; });
}

}  // namespace pith::tool
