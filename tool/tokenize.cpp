// SPDX-License-Identifier: MIT
// pith tokenize: text to token ids.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command.hpp"
#include "options.hpp"

namespace pith::tool {
namespace {

struct TokenizeOptions {
  ModelOptions model;
  TextOptions text;
  std::string specials = "as_trained";
  bool lines = false;
};

Specials specials_named(const std::string& name) {
  if (name == "plain") return Specials::plain;
  if (name == "add_only") return Specials::add_only;
  return name == "parse_only" ? Specials::parse_only : Specials::as_trained;
}

void print_line(const std::vector<Token>& tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) std::cout << (i > 0 ? " " : "") << tokens[i];
  std::cout << '\n';
}

Exit tokenize(const TokenizeOptions& options, const Tool& tool) {
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const std::string text = options.text.given() ? options.text.read() : read_file("-");
  auto all = nlohmann::ordered_json::array();
  for (const std::string& part : options.lines ? lines_of(text) : std::vector{text}) {
    const std::vector<Token> tokens = tokenizer.encode(part, specials_named(options.specials));
    if (tool.json)
      all.push_back(tokens);
    else
      print_line(tokens);
  }
  if (tool.json) print({{"tokens", options.lines ? all : all.front()}});
  return Exit::ok;
}

}  // namespace

void add_tokenize(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<TokenizeOptions>(app, tool, "tokenize", "Text to token ids", tokenize);
  add_model_path(command, options.model);
  add_tokenizer(command, options.model);
  add_options(command, options.text, "The text [stdin]");
  command.add_flag("--lines", options.lines, "Each line is a text of its own");
  command
      .add_option("--specials", options.specials,
                  "Special tokens: as_trained adds and recognises them, add_only adds, parse_only recognises them, "
                  "plain does neither")
      ->check(CLI::IsMember({"as_trained", "add_only", "parse_only", "plain"}).description(""))
      ->type_name("MODE");
}

}  // namespace pith::tool
