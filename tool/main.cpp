// SPDX-License-Identifier: MIT
// The `pith` command: reads the command line, runs one subcommand, and says how it ended.
#include <exception>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "command.hpp"
#include "flags.hpp"
#include "pith/model.hpp"
#include "pith/tensor/ops.hpp"
#include "pith/version.hpp"

namespace pith::tool {
namespace {

Exit print_version(const Tool& tool) {
  std::string others;
  for (const std::string_view isa : isas()) others.append(others.empty() ? "" : ", ").append(isa);
  if (tool.json)
    print({{"version", version}, {"isa", isa()}, {"isas", isas()}});
  else
    std::cout << "pith " << version << "\ninstruction set: " << isa() << " (of " << others << ")\n";
  return Exit::ok;
}

Exit report(Exit exit, std::string_view message) {
  std::cerr << "pith: error: " << message << '\n';
  return exit;
}

Exit usage_error(const std::string& message, const CLI::App& app) {
  std::string command = "pith";
  for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name();
  return report(Exit::usage, message + " (see `" + command + " --help`)");
}

Exit run(CLI::App& app, Tool& tool) {
  guard_mappings();
  if (!tool.isa.empty()) use_isa(tool.isa);
  const Exit exit = tool.command ? tool.command() : usage_error("expected a subcommand, found none", app);
  std::cout.flush();
  require(std::cout.good(), ErrorCode::file, "standard output: cannot be written");
  return exit;
}

Exit main(int argc, char** argv) {
  Tool tool;
  CLI::App app("Runs language models that forget what they no longer need.", "pith");
  app.require_subcommand(0, 1);
  add_common_flags(app, tool);
  app.add_flag_callback(
      "--version", [&tool] { tool.command = [&tool] { return print_version(tool); }; },
      "The version, and the instruction set in use");
  for (const auto add : {add_run, add_chat, add_eval, add_perplexity, add_tokenize, add_detokenize, add_inspect,
                         add_policies, add_heads, add_bench, add_quantize, add_trace, add_serve})
    add(app, tool);
  try {
    app.parse(argc, argv);
    return run(app, tool);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return Exit::ok;
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what(), app);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) {
      tool.note("interrupted");
      return Exit::interrupted;
    }
    return report(exit_for(error.code()), in_flags(error.what()));
  } catch (const std::bad_alloc&) {
    return report(Exit::runtime, "out of memory");
  } catch (const std::exception& error) {
    return report(Exit::runtime, error.what());
  }
}

}  // namespace
}  // namespace pith::tool

int main(int argc, char** argv) { return static_cast<int>(pith::tool::main(argc, argv)); }
