// SPDX-License-Identifier: MIT
// pith trace: generates from a prompt, or reads a text, and writes what was forgotten, when and by whom. With
// --aggregate it reads a text of any length in windows, and says which kinds of tokens are kept, and how long.
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "aggregate.hpp"
#include "command.hpp"
#include "feed.hpp"
#include "files/output_file.hpp"
#include "interrupt.hpp"
#include "options.hpp"
#include "pith/generator.hpp"
#include "pith/trace.hpp"
#include "raster.hpp"
#include "show.hpp"
#include "token_class.hpp"

namespace pith::tool {
namespace {

struct TraceOptions {
  ModelOptions model;
  TextOptions text;
  CacheOptions cache;
  SamplingOptions sampling;
  FeedOptions feed;
  int tokens = 120;
  std::optional<std::size_t> layer;  // of the picture
  bool evaluate = false, aggregate = false, show = false;
  std::optional<std::string> html, svg, png, gif, csv, compare;
};

/// What is to be written, opened before the work, which may take long.
struct Outputs {
  explicit Outputs(const TraceOptions& options) {
    open(html, options.html);
    open(svg, options.svg);
    open(png, options.png);
    open(gif, options.gif);
    open(csv, options.csv);
  }

  std::optional<OutputFile> html, svg, png, gif, csv;

 private:
  static void open(std::optional<OutputFile>& file, const std::optional<std::string>& path) {
    if (path) file.emplace(*path);
  }
};

void write(OutputFile& file, const std::string& text) {
  file.write(text);
  file.finish();
}

/// The text of a trace file.
std::string read_trace(const std::string& path) {
  std::string text = read_file(path);
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || json.value("format", nlohmann::json()) != "pith-trace/1")
    fail(ErrorCode::file, path, "a trace (pith-trace/1, as `pith trace --json` writes it)", "something else");
  return text;
}

struct Recorded {
  Trace trace;
  std::uint64_t dropped_rows = 0;
};

/// What is chosen last is not fed, and so not in the trace: one more than wanted. -1: as many as there is room for.
std::optional<std::size_t> at_most(int count) {
  if (count < 0) return std::nullopt;
  return count > 0 ? static_cast<std::size_t>(count) + 1 : 0;
}

/// Feeds the tokens, then goes on until there are `count` more, the text ends or the context is full.
Recorded record(const TraceOptions& options, SessionOptions session, const Model& model, const Tokenizer& tokenizer,
                std::span<const Token> prompt, int count) {
  Tracer tracer;
  Generator generator(model, tokenizer, tracer.attach(std::move(session)));
  Recorded recorded;
  std::exception_ptr error;
  Request request{.prompt = std::vector(prompt.begin(), prompt.end()),
                  .max_tokens = at_most(count),
                  .sampler = sampler_options(options.sampling)};
  request.on_prompt = [&](SequenceId id, std::size_t position, std::span<const float> logits) {
    if (position + 1 < prompt.size()) tracer.predicted(id, position + 1, logits, prompt[position + 1]);
  };
  request.on_piece = [&](const Piece& piece) {
    if (!piece.finish)
      tracer.predicted(*piece.sequence, generator.session().length(*piece.sequence), piece.logits, *piece.token);
    else if (piece.sequence)
      recorded = {tracer.trace(generator.session(), *piece.sequence),
                  generator.session().stats(*piece.sequence).dropped_rows};
    error = piece.error;
  };
  generator.submit(std::move(request));
  const Interrupt interrupt;
  generator.run(interrupt.token());
  if (error) std::rethrow_exception(error);
  if (interrupt.requested()) fail(ErrorCode::cancelled, "trace: interrupted");
  return recorded;
}

/// Not more frames than can be watched.
void write_animation(OutputFile& file, const Trace& trace, const Tokenizer& tokenizer, const Interrupt& interrupt) {
  constexpr std::size_t most = 160;
  const std::size_t n = trace.tokens.size(), frames = std::min(n, most);
  write_gif(file, frames, [&](std::size_t i) {
    require(!interrupt.requested(), ErrorCode::cancelled, "trace: stopped");
    return draw_moment(trace, tokenizer, (i + 1) * n / frames);
  });
}

Exit trace_one(const TraceOptions& options, Outputs& outputs, const Tool& tool) {
  const Model model = load(options.model);
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const std::vector<Token> prompt = tokenizer.encode(options.text.read(), Specials::as_trained);
  if (prompt.empty()) fail(ErrorCode::argument, "trace", "a text (--prompt/-p or --file/-f)", "none");
  const auto layers = static_cast<std::size_t>(model.config().n_layers());
  if (options.layer.value_or(0) >= layers)
    fail(ErrorCode::argument, "--layer", "a layer below " + std::to_string(layers), std::to_string(*options.layer));
  const std::string other = options.compare ? read_trace(*options.compare) : "null";
  SessionOptions session = session_options(options.cache, model, tool);
  const prune::Needs needs = session.policy->needs();
  const int wanted = options.evaluate ? 0 : options.tokens;
  const Recorded recorded = record(options, std::move(session), model, tokenizer, prompt, wanted);
  const Trace& trace = recorded.trace;
  if (wanted == 0) {
    Kept kept;
    kept.add(trace.drop_at, recorded.dropped_rows);
    for (const std::string& note :
         unmeasured(kept, {}, options.cache, needs, prompt.size(), "with -n above 0 and no --eval, tokens follow"))
      tool.warn(note);
  }
  const TraceInfo info{.model = options.model.path,
                       .policy = policy_name(options.cache, model),
                       .tau = options.cache.tau.value_or(0.0f),
                       .kv = options.cache.kv,
                       .prompt_tokens = prompt.size()};
  const std::string json = to_json(trace, info, model.config(), tokenizer);
  const Interrupt interrupt;
  if (outputs.svg || outputs.png) {
    const Drawing picture = options.layer ? draw_layer(trace, tokenizer, *options.layer) : draw(trace, tokenizer);
    if (outputs.svg) write(*outputs.svg, to_svg(picture));
    if (outputs.png) write_png(*outputs.png, picture);
  }
  if (outputs.gif) write_animation(*outputs.gif, trace, tokenizer, interrupt);
  if (outputs.html) write(*outputs.html, to_html(json, other));
  if (options.show) {
    Kept kept;
    kept.add(trace.drop_at);
    show(tool, tokenizer, trace.tokens, trace.drop_at, "kept " + percent_text(kept.mean()) + " of the context");
  }
  if (tool.json || !(options.svg || options.png || options.gif || options.html || options.show))
    std::cout << json << '\n';
  return Exit::ok;
}

/// The text in windows of -c tokens, each a fresh sequence, one after the other; where the tokenizer begins its texts
/// with a BOS, so does every window.
Exit trace_corpus(const TraceOptions& options, Outputs& outputs, const Tool& tool) {
  const Model model = load(options.model);
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const std::vector<Token> text = tokenizer.encode(options.text.read(), Specials::plain);
  if (text.empty()) fail(ErrorCode::argument, "trace", "a text (--prompt/-p or --file/-f)", "none");
  const std::optional<Token> bos = bos_of(tokenizer);
  const std::size_t prefix = bos ? 1 : 0, context = context_of(options.cache, model);
  if (context <= prefix)
    fail(ErrorCode::argument, "--ctx-size/-c", "at least " + std::to_string(prefix + 1) + " tokens",
         std::to_string(context));

  SessionOptions session_options = tool::session_options(options.cache, model, tool);
  session_options.record_drops = true;
  const prune::Needs needs = session_options.policy->needs();
  FeedOptions how = options.feed;
  take_kvzip(how, options.model, tokenizer, session_options);
  Session session(model, std::move(session_options));
  Kept kept;
  Aggregate aggregate(static_cast<std::size_t>(model.config().n_layers()));
  tool::Progress progress(tool);
  const Interrupt interrupt;
  for (std::size_t start = 0; start < text.size(); start += context - prefix) {
    const std::size_t count = std::min(context - prefix, text.size() - start);
    std::vector<Token> window(text.begin() + static_cast<std::ptrdiff_t>(start),
                              text.begin() + static_cast<std::ptrdiff_t>(start + count));
    if (bos) window.insert(window.begin(), *bos);
    const SequenceId sequence = feed(session, window, how, interrupt.token(), [](auto&&...) {});
    kept.add(session.drop_at(sequence), session.stats(sequence).dropped_rows);
    aggregate.add(classify(window, tokenizer), session.drop_at(sequence));
    session.finish(sequence);
    progress.show(std::to_string(start + count) + " of " + std::to_string(text.size()) + " tokens");
  }
  progress.clear();
  const auto notes = unmeasured(kept, options.feed, options.cache, needs, std::min(context, text.size() + prefix));
  for (const std::string& note : notes) tool.warn(note);

  const std::string policy = policy_name(options.cache, model);
  if (outputs.csv) write(*outputs.csv, to_csv(aggregate));
  if (outputs.svg || outputs.png) {
    const Drawing chart = draw_chart(
        aggregate, options.model.path + ", policy " + policy + ": " + percent_text(aggregate.kept()) + " kept of " +
                       std::to_string(aggregate.tokens()) + " tokens in windows of " + std::to_string(context));
    if (outputs.svg) write(*outputs.svg, to_svg(chart));
    if (outputs.png) write_png(*outputs.png, chart);
  }
  if (tool.json) {
    nlohmann::ordered_json out{
        {"format", "pith-aggregate/1"},         {"model", options.model.path},  {"policy", policy},
        {"tau", options.cache.tau.value_or(0)}, {"kv", name(options.cache.kv)}, {"context", context}};
    out.update(to_json(aggregate));
    out["notes"] = notes;
    print(out);
  } else if (!(options.csv || options.svg || options.png)) {
    std::cout << to_text(aggregate);
  }
  return Exit::ok;
}

Exit run(const TraceOptions& options, const Tool& tool) {
  if (options.layer && !options.svg && !options.png)
    fail(ErrorCode::argument, "--layer", "a picture to draw (--svg or --png)", "none");
  if (options.png || options.gif) require_raster();  // before the work, not after it
  Outputs outputs(options);
  return options.aggregate ? trace_corpus(options, outputs, tool) : trace_one(options, outputs, tool);
}

}  // namespace

void add_trace(CLI::App& app, Tool& tool) {
  const auto [command, options] =
      add_command<TraceOptions>(app, tool, "trace", "Write what was forgotten, when and by whom", run);
  add_model_path(command, options.model);
  add_gates(command, options.model);
  add_tokenizer(command, options.model);
  add_options(command, options.text, "The prompt, or with --eval the text");
  add_options(command, options.cache);
  const auto sampling = add_options(command, options.sampling);
  add_count(command, options.tokens);
  command.add_flag("--eval", options.evaluate, "Generate nothing: the trace is of the given text");
  command.add_flag("--show", options.show, "Show the text with what was forgotten marked, and the rows of each layer");
  command.get_option("--predict")->excludes("--eval");
  auto* const html = &command.writes("--html", options.html, "Write a report that opens in a browser");
  command.writes("--svg", options.svg,
                 "Write a picture: the text as it was kept, and each layer's map of who sees whom");
  command.writes("--png", options.png, "Write the same picture as pixels");
  auto* const layer =
      &command.number("--layer", options.layer, at_least<std::size_t>(0),
                      "With --svg or --png: one layer alone, with arrows from each token to all that it dropped");
  auto* const gif = &command.writes("--gif", options.gif, "Write an animation: the picture, token by token");
  auto* const compare =
      command.reads("--compare", options.compare, "With --html: a second trace (JSON) for the report").needs(html);
  auto* const aggregate =
      command
          .add_flag("--aggregate", options.aggregate,
                    "Of the given text, in windows of -c tokens: the fraction kept by layer, by distance, by class of "
                    "token, by position of token and query; --svg and --png are charts of it")
          ->excludes("--eval")
          ->excludes("--predict")
          ->excludes("--show")
          ->excludes(html)
          ->excludes(gif)
          ->excludes(layer)
          ->excludes(compare);
  for (CLI::Option* const choice : sampling) choice->excludes("--eval")->excludes(aggregate);
  add_options(command, options.feed);
  command.get_option("--prompt-tokens")->needs(aggregate);
  command.writes("--csv", options.csv, "With --aggregate: write it as a table: view,bin,layer,pairs,kept")
      .needs(aggregate);
  command.footer(
      "Classes of tokens, for English; a token is of the class of the word or sign that its first letter is in:\n"
      "  function word  articles, pronouns, prepositions, conjunctions, auxiliaries: a list in token_class.cpp\n"
      "  name           another word with a capital that does not begin a sentence or a quotation\n"
      "  number         begins with a digit\n"
      "  sentence end   . ! ? or an ellipsis before a blank, unless a small letter follows or after an abbreviation\n"
      "  other word, punctuation, blank, special (tokens that stand for no text)");
}

}  // namespace pith::tool
