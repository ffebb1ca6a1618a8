// SPDX-License-Identifier: MIT
// pith detokenize: token ids to text.
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "command.hpp"
#include "ids.hpp"
#include "options.hpp"

namespace pith::tool {
namespace {

struct DetokenizeOptions {
  ModelOptions model;
  TextOptions ids;
  bool specials = false;
  bool lines = false;
};

std::string source(const TextOptions& ids) {
  if (ids.text) return "--prompt/-p";
  return ids.file && *ids.file != "-" ? *ids.file : "standard input";
}

Exit detokenize(const DetokenizeOptions& options, const Tool& tool) {
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const std::string ids = options.ids.given() ? options.ids.read() : read_file("-");
  const auto show = options.specials ? Tokenizer::Show::with_specials : Tokenizer::Show::text_only;
  auto all = nlohmann::ordered_json::array();
  std::set<Token> unknown;
  for (const std::string& part : options.lines ? lines_of(ids) : std::vector{ids}) {
    const std::vector<Token> tokens = parse_ids(part, source(options.ids));
    for (const Token token : tokens)
      if (token >= tokenizer.vocab_size()) unknown.insert(token);
    const std::string text = tokenizer.decode(tokens, show);
    if (tool.json)
      all.push_back(text);
    else
      std::cout << text << (options.lines ? "\n" : "");
  }
  if (!unknown.empty())
    tool.note("warning: ids beyond the tokenizer's " + std::to_string(tokenizer.vocab_size()) +
              " stand for no text; the first is " + std::to_string(*unknown.begin()));
  if (tool.json) print({{"text", options.lines ? all : all.front()}});
  return Exit::ok;
}

}  // namespace

void add_detokenize(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<DetokenizeOptions>(app, tool, "detokenize", "Token ids to text", detokenize);
  add_model_path(command, options.model);
  add_tokenizer(command, options.model);
  add_options(command, options.ids, "The ids: a JSON array, or numbers between spaces or commas [stdin]");
  command.add_flag("--lines", options.lines, "Each line is a text of its own");
  command.add_flag("--with-specials", options.specials, "Special tokens too");
}

}  // namespace pith::tool
