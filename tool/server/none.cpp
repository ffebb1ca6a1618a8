// SPDX-License-Identifier: MIT
// pith serve, where it was built without cpp-httplib.
#include "command.hpp"

namespace pith::tool {
namespace {

struct NoOptions {};

Exit refuse(const NoOptions&, const Tool&) {
  fail(ErrorCode::unsupported,
       "serve: this pith was built without it, as cpp-httplib was missing (Debian's libcpp-httplib-dev)");
}

}  // namespace

void add_serve(CLI::App& app, Tool& tool) {
  auto [command, options] =
      add_command<NoOptions>(app, tool, "serve", "Answer requests over HTTP (not in this build)", refuse);
  command.allow_extras();
}

}  // namespace pith::tool
