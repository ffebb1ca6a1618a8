// SPDX-License-Identifier: MIT
// pith trace: generates from a prompt, or reads a text, and writes what was forgotten, when and by whom.
#include <fstream>
#include <iostream>
#include <optional>
#include <string>

#include "command.hpp"
#include "options.hpp"
#include "pith/trace.hpp"

namespace pith::tool {
namespace {

struct TraceOptions {
  ModelOptions model;
  TextOptions text;
  CacheOptions cache;
  SamplingOptions sampling;
  int tokens = 120;
  bool evaluate = false;
  std::optional<std::string> html, svg, compare;
};

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  if (!(out << text).flush()) fail(ErrorCode::file, path, "a file that can be written", "one that cannot");
}

/// Feeds the tokens, then goes on until there are `count` more, the text ends or the context is full.
Trace record(const TraceOptions& options, const Model& model, const Tokenizer& tokenizer, const Tool& tool,
             std::span<const Token> prompt, int count) {
  Tracer tracer;
  SessionOptions session_options = pith::tool::session_options(options.cache, model, tool);
  session_options.logits = Logits::all;
  Session session(model, tracer.attach(std::move(session_options)));
  Sampler sample(sampler_options(options.sampling));
  sample.accept(prompt);
  const SequenceId id = session.add(prompt);
  const std::size_t end = std::min(prompt.size() + static_cast<std::size_t>(count), context_of(options.cache, model));
  std::size_t next = 1;  // the position that the next logits speak of
  while (!session.idle())
    for (const Output& output : session.step()) {
      if (next < prompt.size()) {
        tracer.predicted(id, next, output.logits, prompt[next]);
      } else if (next < end) {
        const Token token = sample(output.logits);
        sample.accept(token);
        if (tokenizer.is_end(token)) break;
        tracer.predicted(id, next, output.logits, token);
        session.push(id, token);
      }
      ++next;
    }
  return tracer.trace(session, id);
}

Exit run(const TraceOptions& options, const Tool& tool) {
  const Model model = load(options.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model.path);
  const std::vector<Token> prompt = tokenizer.encode(options.text.read());
  if (prompt.empty()) fail(ErrorCode::argument, "prompt", "text (-p or -f)", "none");
  const Trace trace = record(options, model, tokenizer, tool, prompt, options.evaluate ? 0 : options.tokens);
  const TraceInfo info{.model = options.model.path,
                       .policy = policy_name(options.cache, model),
                       .tau = options.cache.tau.value_or(0.0f),
                       .kv = *format_named(options.cache.kv),
                       .prompt_tokens = prompt.size()};
  const std::string json = to_json(trace, info, model.config(), tokenizer);
  if (options.svg) write_file(*options.svg, to_svg(trace, tokenizer));
  if (options.html) write_file(*options.html, to_html(json, options.compare ? read_file(*options.compare) : "null"));
  if (tool.json || (!options.svg && !options.html)) std::cout << json << '\n';
  return Exit::ok;
}

}  // namespace

void add_trace(CLI::App& app, Tool& tool) {
  const auto [command, options] =
      add_command<TraceOptions>(app, tool, "trace", "Write what was forgotten, when and by whom", run);
  add_options(command, options.model);
  add_options(command, options.text, "The prompt, or with --eval the text");
  add_options(command, options.cache);
  add_options(command, options.sampling);
  command.add_option("-n,--tokens", options.tokens, "Tokens to generate (120)")->check(CLI::NonNegativeNumber);
  command.add_flag("--eval", options.evaluate, "Generate nothing: the trace is of the given text");
  command.add_option("--html", options.html, "Write a report that opens in a browser")->type_name("FILE");
  command.add_option("--svg", options.svg, "Write a picture: the text as it was kept, and each layer's map")
      ->type_name("FILE");
  command.add_option("--compare", options.compare, "A second trace (JSON) for the report")->type_name("FILE");
}

}  // namespace pith::tool
