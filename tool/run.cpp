// SPDX-License-Identifier: MIT
// pith run: generates text, and says what was forgotten on the way.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "command.hpp"
#include "interrupt.hpp"
#include "kept.hpp"
#include "options.hpp"
#include "pith/stop_sequences.hpp"
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
  std::vector<std::string> stops;
  bool ignore_end = false;
  bool show = false;
};

/// Tokens that end a text, by the model's files or the tokenizer's.
std::vector<Token> end_tokens(const Model& model, const Tokenizer& tokenizer) {
  std::vector<Token> ends;
  for (Token token = 0; token < model.config().vocab_size; ++token)
    if ((token < tokenizer.vocab_size() && tokenizer.is_end(token)) ||
        std::ranges::count(model.config().end_tokens, token) > 0)
      ends.push_back(token);
  return ends;
}

std::vector<Token> prompt_tokens(const TextOptions& prompt, const Model& model, const Tokenizer& tokenizer) {
  std::string text = prompt.read();
  // The newline with which editors end a file is not part of the prompt.
  if (prompt.file && text.ends_with('\n')) text.pop_back();
  std::vector<Token> tokens = tokenizer.encode(text);
  if (!tokens.empty()) return tokens;
  const std::optional<Token> bos = tokenizer.bos() ? tokenizer.bos() : model.config().bos;
  if (!bos) fail(ErrorCode::argument, "--prompt/-p", "text, as this tokenizer has no token to begin with", "none");
  return {*bos};
}

/// One continuation: what was generated, and how long it took.
struct Generation {
  std::vector<Token> prompt, tokens;
  std::string text;
  std::string_view stop;  // "end", "length", "stop_string", "context", "interrupted"
  std::size_t prefilled = 0, decoded = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

class Generator {
 public:
  Generator(const RunOptions& options, const SamplerOptions& sampling, const Model& model, const Tokenizer& tokenizer,
            const Tool& tool)
      : options_(options),
        vocabulary_(tokenizer.vocab_size()),
        stream_(tokenizer),
        stops_(options.stops),
        sample_(sampling),
        ends_(end_tokens(model, tokenizer)),
        context_(context_of(options.cache, model)),
        streams_text_(!tool.json),
        progress_(tool),
        session_(model, with_callbacks(session_options(options.cache, model, tool))) {}

  /// Returns when a token ends the text, or there is no room for one more, or Ctrl-C was pressed.
  Generation generate(std::vector<Token> prompt) {
    Generation g;
    g.prompt = std::move(prompt);
    sequence_ = session_.add(g.prompt);
    sample_.accept(g.prompt);
    for (const Token token : g.prompt) text_of(token);  // the text goes on from there
    while (g.stop.empty()) {
      const auto begin = std::chrono::steady_clock::now();
      const std::size_t before = session_.length(sequence_);
      step(g);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      const bool prefill = before < g.prompt.size();
      (prefill ? g.prefill_seconds : g.decode_seconds) += seconds.count();
      (prefill ? g.prefilled : g.decoded) += session_.length(sequence_) - before;
    }
    if (g.stop != "stop_string") emit(g, stops_.push(stream_.flush()) + stops_.flush());
    return g;
  }

  CacheStats stats() const { return session_.stats(sequence_); }
  DropAt drop_at() const { return session_.drop_at(sequence_); }

 private:
  SessionOptions with_callbacks(SessionOptions options) {
    options.record_drops = true;
    options.on_prefill = [this](const pith::Progress& at) {
      if (at.done < at.total) progress_.show("prompt " + std::to_string(at.done) + " of " + std::to_string(at.total));
    };
    return options;
  }

  /// Feeds what is pending, and chooses the next token.
  void step(Generation& g) try {
    const auto outputs = session_.step(interrupt_.token());
    progress_.clear();
    if (options_.tokens != static_cast<int>(g.tokens.size())) choose(g, outputs.front().logits);
    if (g.stop.empty()) g.stop = full(g);
    if (g.stop.empty()) session_.push(sequence_, g.tokens.back());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled) throw;
    progress_.clear();
    g.stop = "interrupted";
  }

  void choose(Generation& g, std::span<const float> logits) {
    if (options_.ignore_end) {
      allowed_.assign(logits.begin(), logits.end());
      for (const Token end : ends_) allowed_[static_cast<std::size_t>(end)] = -std::numeric_limits<float>::infinity();
      logits = allowed_;
    }
    const Token token = sample_(logits);
    sample_.accept(token);
    g.tokens.push_back(token);
    if (std::ranges::binary_search(ends_, token)) {
      g.stop = "end";
      return;
    }
    emit(g, stops_.push(text_of(token)));
    if (stops_.stopped()) g.stop = "stop_string";
  }

  /// Models may have more ids than their tokenizer, for the sake of round numbers: they stand for no text.
  std::string text_of(Token token) { return token < vocabulary_ ? stream_.push(token) : std::string(); }

  std::string_view full(const Generation& g) const {
    if (options_.tokens == static_cast<int>(g.tokens.size())) return "length";
    return g.prompt.size() + g.tokens.size() >= context_ ? "context" : "";
  }

  void emit(Generation& g, const std::string& text) {
    g.text += text;
    if (streams_text_) std::cout << text << std::flush;
  }

  const RunOptions& options_;
  int vocabulary_;  // of the tokenizer
  TextStream stream_;
  StopSequences stops_;
  Sampler sample_;
  std::vector<Token> ends_;  // ascending
  std::size_t context_;
  bool streams_text_;
  Progress progress_;
  Session session_;
  SequenceId sequence_{};
  std::vector<float> allowed_;  // [vocab_size], logits without the tokens that end a text
  Interrupt interrupt_;
};

double rate(std::size_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

std::string summary(const Generation& g) {
  return "prompt of " + std::to_string(g.prompt.size()) + " tokens at " +
         number_text(rate(g.prefilled, g.prefill_seconds), 1) + "/s, " + std::to_string(g.tokens.size()) +
         " generated at " + number_text(rate(g.decoded, g.decode_seconds), 1) + "/s, stop: " + std::string(g.stop);
}

std::string memory(const Kept& kept, const CacheStats& stats) {
  return "kept " + percent_text(kept.mean()) + " of the context; keys and values take " +
         bytes_text(static_cast<double>(stats.bytes_used)) + ", dense " +
         bytes_text(static_cast<double>(stats.bytes_dense));
}

std::vector<Token> whole(const Generation& g) {
  std::vector<Token> tokens = g.prompt;
  tokens.insert(tokens.end(), g.tokens.begin(), g.tokens.end());
  return tokens;
}

Exit run(const RunOptions& options, const Tool& tool) {
  const Model model = load(options.model);
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const SamplerOptions sampling = sampler_options(options.sampling);
  tool.detail(options.model.path + ": " + std::string(name(model.config().architecture)) + ", " +
              std::to_string(model.parameters()) + " parameters; policy " + policy_name(options.cache, model) +
              ", cache " + options.cache.kv + ", " + std::string(isa()) + ", seed " + std::to_string(sampling.seed));

  std::vector<Token> prompt = prompt_tokens(options.prompt, model, tokenizer);
  Generator generator(options, sampling, model, tokenizer, tool);
  const Generation g = generator.generate(std::move(prompt));

  const CacheStats stats = generator.stats();
  const DropAt drop_at = generator.drop_at();
  Kept kept;
  kept.add(drop_at);
  if (!tool.json) std::cout << '\n';
  if (options.show) show(tool, tokenizer, whole(g), drop_at, memory(kept, stats));
  if (tool.json)
    print({{"prompt_tokens", g.prompt.size()},
           {"tokens", g.tokens},
           {"text", g.text},
           {"stop", g.stop},
           {"kept", kept.mean()},
           {"kept_per_layer", kept.per_layer()},
           {"kv_bytes", stats.bytes_used},
           {"kv_bytes_dense", stats.bytes_dense},
           {"prefill_tokens_per_s", rate(g.prefilled, g.prefill_seconds)},
           {"decode_tokens_per_s", rate(g.decoded, g.decode_seconds)},
           {"seed", sampling.seed},
           {"policy", policy_name(options.cache, model)},
           {"kv", options.cache.kv},
           {"isa", isa()}});
  std::cout.flush();
  tool.note(summary(g));
  if (!options.show) tool.note(memory(kept, stats));
  return g.stop == "interrupted" ? Exit::interrupted : Exit::ok;
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
  command.add_flag("--ignore-eos", options.ignore_end, "Never choose a token that ends the text");
  command.add_flag("--show", options.show, "Show the whole text again, with what was forgotten marked");
  add_options(command, options.sampling);
  add_options(command, options.cache);
}

}  // namespace pith::tool
