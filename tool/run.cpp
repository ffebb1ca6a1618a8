// SPDX-License-Identifier: MIT
// pith run: generates text, and says what was forgotten on the way.
#include <algorithm>
#include <chrono>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "anchors.hpp"
#include "command.hpp"
#include "interrupt.hpp"
#include "kept.hpp"
#include "kvzip.hpp"
#include "options.hpp"
#include "pith/generator.hpp"
#include "pith/prune/combinators.hpp"
#include "pith/tensor/ops.hpp"
#include "show.hpp"

namespace pith::tool {
namespace {

struct RunOptions {
  ModelOptions model;
  TextOptions prompt;
  CacheOptions cache;
  SamplingOptions sampling;
  int tokens = -1;
  DraftOptions draft;
  std::vector<std::string> stops;
  bool ignore_end = false;
  std::string anchors;  // empty = no demonstrations
  std::string load, save;
  std::string prefix;  // empty = none
  std::optional<float> kvzip;
  bool show = false;
};

/// `before`: what the prompt's own text goes on from, which begins it.
std::vector<Token> prompt_tokens(const TextOptions& prompt, const std::string& before, Specials specials,
                                 const Generator& generator) {
  std::string text = prompt.read();
  // The newline with which editors end a file is not part of the prompt.
  if (prompt.file && text.ends_with('\n')) text.pop_back();
  text = before + text;
  if (text.empty() && specials == Specials::parse_only) return {};  // it goes on from another, which has begun the text
  // Who writes the prompt writes its template, too.
  return generator.encode(text, specials);
}

/// What scripts know the reasons by.
std::string_view stop_name(Finish finish) {
  if (finish == Finish::stop) return "stop_string";
  return finish == Finish::cancelled ? "interrupted" : name(finish);
}

/// One continuation: what was generated, how long it took, and what the cache held of it at the end.
struct Outcome {
  std::vector<Token> past, prompt, tokens;  // loaded, read, chosen
  std::string text;
  Finish finish = Finish::error;
  std::size_t fed = 0;  // tokens behind the past
  double prefill_seconds = 0, decode_seconds = 0;
  CacheStats stats;
  DraftCount drafts;
  DropAt drop_at;

  std::size_t prefilled() const { return std::min(fed, prompt.size()); }
  std::size_t decoded() const { return fed - prefilled(); }
};

/// Streams a continuation until a token ends the text, or there is no room for one more, or Ctrl-C was pressed.
Outcome generate(const RunOptions& options, const SamplerOptions& sampling, const Model& model,
                 const Tokenizer& tokenizer, const Tool& tool) {
  using Clock = std::chrono::steady_clock;
  Progress progress(tool);
  SessionOptions session = session_options(options.cache, model, tool);
  if (options.kvzip) session.policy = prune::per_head(*session.policy);  // each head keeps what it looks at itself
  session.record_drops = true;
  session.on_prefill = [&](const pith::Progress& at) {
    if (at.done < at.total) progress.show("prompt " + std::to_string(at.done) + " of " + std::to_string(at.total));
  };
  Generator generator(model, tokenizer, std::move(session));
  MarkedText demonstrations;
  if (!options.anchors.empty()) demonstrations = MarkedText::of(read_file(options.anchors), options.anchors);
  std::optional<ConversationId> conversation;
  if (!options.load.empty())
    conversation = generator.restore(options.load).first;
  else if (!options.save.empty() || options.kvzip)
    conversation = generator.open();
  const std::size_t before = conversation ? generator.length(*conversation) : 0;
  const auto specials_of = [](bool goes_on) { return goes_on ? Specials::parse_only : Specials::as_trained; };
  std::vector<Token> prefix;
  if (!options.prefix.empty()) prefix = generator.encode(read_file(options.prefix), specials_of(!options.load.empty()));
  std::vector<Token> prompt = prompt_tokens(options.prompt, demonstrations.text,
                                            specials_of(!prefix.empty() || !options.load.empty()), generator);
  Outcome out{.prompt = prefix};
  out.prompt.insert(out.prompt.end(), prompt.begin(), prompt.end());
  if (out.prompt.empty()) fail(ErrorCode::argument, "--load", "a prompt to go on with (-p, -f)", "none");
  const Interrupt interrupt;
  const auto begin = Clock::now();
  std::optional<Clock::time_point> first;  // when the prompt had been read
  std::exception_ptr error;
  if (options.kvzip) {
    const Generation read =
        generator.generate({.prompt = prefix, .max_tokens = 0, .conversation = conversation}, interrupt.token());
    if (read.finish == Finish::cancelled) return out.finish = read.finish, out;
    generator.compress(*conversation, replay_of(options.model, tokenizer, *options.kvzip));
  } else {
    prompt = out.prompt;
  }
  Request request{.prompt = std::move(prompt), .stops = options.stops, .sampler = sampling, .draft = options.draft};
  if (options.tokens >= 0) request.max_tokens = static_cast<std::size_t>(options.tokens);
  if (!demonstrations.text.empty()) request.anchors = anchors_of(demonstrations, out.prompt, tokenizer);
  request.conversation = conversation;
  if (options.ignore_end) request.sampler.banned = generator.ends();
  request.on_piece = [&](const Piece& piece) {
    progress.clear();
    if (!first && piece.token) first = Clock::now();
    if (piece.token) out.tokens.push_back(*piece.token);
    out.text += piece.text;
    if (!tool.json) std::cout << piece.text << std::flush;
    if (!piece.finish) return;
    out.finish = *piece.finish;
    out.drafts = piece.drafts;
    error = piece.error;
    if (!piece.sequence) return;
    const auto tokens = generator.session().tokens(*piece.sequence);
    out.past.assign(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(std::min(before, tokens.size())));
    out.fed = tokens.size() - out.past.size();
    out.stats = generator.session().stats(*piece.sequence);
    out.drop_at = generator.session().drop_at(*piece.sequence);
  };
  const RequestId id = generator.submit(std::move(request));
  generator.run(interrupt.token());
  generator.cancel(id);
  generator.run();
  if (error) std::rethrow_exception(error);
  if (!options.save.empty()) generator.save(*conversation, options.save);
  const auto seconds = [](Clock::duration time) { return std::chrono::duration<double>(time).count(); };
  const auto end = Clock::now();
  out.prefill_seconds = seconds(first.value_or(end) - begin);
  out.decode_seconds = seconds(end - first.value_or(end));
  return out;
}

double rate(std::size_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

std::string summary(const Outcome& out) {
  return "prompt of " + std::to_string(out.prompt.size()) + " tokens at " +
         number_text(rate(out.prefilled(), out.prefill_seconds), 1) + "/s, " + std::to_string(out.tokens.size()) +
         " generated at " + number_text(rate(out.decoded(), out.decode_seconds), 1) +
         "/s, stop: " + std::string(stop_name(out.finish)) +
         (out.drafts.drafted > 0 ? ", " + std::to_string(out.drafts.accepted) + " of " +
                                       std::to_string(out.drafts.drafted) + " guesses right"
                                 : "");
}

std::string memory(const Kept& kept, const CacheStats& stats) {
  return "kept " + percent_text(kept.mean()) + " of the context; keys and values take " +
         bytes_text(static_cast<double>(stats.bytes_used)) + ", dense " +
         bytes_text(static_cast<double>(stats.bytes_dense));
}

std::vector<Token> whole(const Outcome& out) {
  std::vector<Token> tokens = out.past;
  tokens.insert(tokens.end(), out.prompt.begin(), out.prompt.end());
  tokens.insert(tokens.end(), out.tokens.begin(), out.tokens.end());
  return tokens;
}

Exit run(const RunOptions& options, const Tool& tool) {
  const Model model = load(options.model);
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const SamplerOptions sampling = sampler_options(options.sampling);
  tool.detail(options.model.path + ": " + std::string(name(model.config().architecture)) + ", " +
              std::to_string(model.parameters()) + " parameters; policy " + policy_name(options.cache, model) +
              ", cache " + name(options.cache.kv) + ", " + std::string(isa()) + ", seed " +
              std::to_string(sampling.seed));

  const Outcome out = generate(options, sampling, model, tokenizer, tool);

  Kept kept;
  kept.add(out.drop_at);
  if (!tool.json) std::cout << '\n';
  if (options.show) show(tool, tokenizer, whole(out), out.drop_at, memory(kept, out.stats));
  if (tool.json)
    print({{"loaded_tokens", out.past.size()},
           {"prompt_tokens", out.prompt.size()},
           {"tokens", out.tokens},
           {"text", out.text},
           {"stop", stop_name(out.finish)},
           {"kept", kept.mean()},
           {"kept_per_layer", kept.per_layer()},
           {"kv_bytes", out.stats.bytes_used},
           {"kv_bytes_dense", out.stats.bytes_dense},
           {"prefill_tokens_per_s", rate(out.prefilled(), out.prefill_seconds)},
           {"decode_tokens_per_s", rate(out.decoded(), out.decode_seconds)},
           {"drafted", out.drafts.drafted},
           {"accepted", out.drafts.accepted},
           {"seed", sampling.seed},
           {"policy", policy_name(options.cache, model)},
           {"kv", name(options.cache.kv)},
           {"isa", isa()}});
  std::cout.flush();
  tool.note(summary(out));
  if (!options.show) tool.note(memory(kept, out.stats));
  return out.finish == Finish::cancelled ? Exit::interrupted : Exit::ok;
}

}  // namespace

void add_run(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<RunOptions>(app, tool, "run", "Generate text", run);
  add_model_path(command, options.model);
  add_gates(command, options.model);
  add_tokenizer(command, options.model);
  add_options(command, options.prompt, "The text to continue [none: begin a new one]");
  add_count(command, options.tokens);
  command.add_option("--stop", options.stops, "Stop before this text; may be given again")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  add_options(command, options.draft);
  command.reads(
      "--anchors", options.anchors,
      "Demonstrations to put before the prompt: once read, only what stands between [[ and ]] is kept of them");
  command.reads("--load", options.load, "Go on behind what was saved: the prompt follows it");
  command.writes("--save", options.save, "Save what was read and written, with all that is held of it, for --load");
  auto* const prefix = &command.reads("--prefix", options.prefix, "A text to put before the prompt");
  prefix->excludes("--anchors");
  command
      .number(
          "--kvzip", options.kvzip, Range<float>{.least = 0, .most = 1},
          "Once the prefix is read, keep this share of its rows: those that the model looks at as it writes it again")
      .needs(prefix);
  command.add_flag("--ignore-eos", options.ignore_end, "Never choose a token that ends the text");
  command.add_flag("--show", options.show, "Show the whole text again, with what was forgotten marked");
  add_options(command, options.sampling);
  add_options(command, options.cache);
}

}  // namespace pith::tool
