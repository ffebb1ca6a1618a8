// SPDX-License-Identifier: MIT
// pith perplexity: how well a text is predicted, while its context is being forgotten.
//
// The text is encoded without special tokens and cut into windows of -c tokens, each a fresh sequence; where the
// tokenizer begins its texts with a BOS, so does every window. A token is scored in the first window that holds it,
// unless nothing of the text stands before it there: all but the first token of each window, and with --stride only
// those that the windows before had not reached. With --prompt-tokens, tokens of a window's prompt are not scored.
//
// --second-half counts as llama.cpp's perplexity program does (tools/perplexity/perplexity.cpp there), so that figures
// compare: whole windows of -c tokens side by side; a BOS, where there is one, takes the place of a window's first
// token; scored are the tokens behind position c/2.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "command.hpp"
#include "feed.hpp"
#include "interrupt.hpp"
#include "kept.hpp"
#include "options.hpp"
#include "pith/logprobs.hpp"

namespace pith::tool {
namespace {

struct PerplexityOptions {
  ModelOptions model;
  TextOptions text;
  CacheOptions cache;
  FeedOptions feed;
  std::optional<int> stride;
  bool second_half = false;
};

struct Result {
  double nll = 0;          // sum, in nats
  std::size_t scored = 0;  // tokens
  std::size_t windows = 0;
  std::size_t longest = 0;         // of the windows, in tokens
  std::size_t kv_bytes_dense = 0;  // of the longest window
  Kept kept;

  double mean() const { return nll / static_cast<double>(scored); }
  double perplexity() const { return std::exp(mean()); }
};

Exit perplexity(const PerplexityOptions& options, const Tool& tool) {
  if (!options.text.given()) fail(ErrorCode::argument, "perplexity", "a text (--prompt/-p or --file/-f)", "none");
  const Model model = load(options.model);
  const Tokenizer tokenizer = load_tokenizer(options.model, tool);
  const std::vector<Token> text = tokenizer.encode(options.text.read(), Specials::plain);
  if (text.size() < 2)
    fail(ErrorCode::argument, "perplexity", "a text of at least 2 tokens (--prompt/-p or --file/-f)",
         std::to_string(text.size()));

  const std::optional<Token> bos = bos_of(tokenizer);
  const std::size_t prefix = bos ? 1 : 0;
  const std::size_t context = context_of(options.cache, model);
  if (context < prefix + 2)
    fail(ErrorCode::argument, "--ctx-size/-c", "at least " + std::to_string(prefix + 2) + " tokens",
         std::to_string(context));
  const std::size_t room = context - prefix;  // text tokens of a window
  const bool half = options.second_half;
  const std::size_t stride = half ? context : options.stride ? static_cast<std::size_t>(*options.stride) : room;
  if (!half && stride > room)
    fail(ErrorCode::argument, "--stride", "from 1 to " + std::to_string(room), std::to_string(*options.stride));
  if (half && (text.size() < room || context < 3))
    fail(ErrorCode::argument, "--second-half", "a text of at least one window of 3 tokens or more (--ctx-size/-c)",
         std::to_string(text.size()) + " tokens for one of " + std::to_string(context));

  SessionOptions session_options = tool::session_options(options.cache, model, tool);
  FeedOptions how = options.feed;
  take_kvzip(how, options.model, tokenizer, session_options);
  const prune::Needs needs = session_options.policy->needs();
  session_options.record_drops = true;
  Session session(model, std::move(session_options));
  Progress progress(tool);
  const Interrupt interrupt;

  const auto begin = std::chrono::steady_clock::now();
  Result result;
  std::size_t reached = 0;  // text tokens that some window has held
  for (std::size_t start = 0; reached < text.size(); start += stride) {
    const std::size_t end = std::min(start + room, text.size());
    if (half && end - start < room) break;
    const std::size_t first = std::max(reached, start + 1);  // to be scored
    reached = end;
    if (first >= end) continue;
    std::vector<Token> window(text.begin() + static_cast<std::ptrdiff_t>(start),
                              text.begin() + static_cast<std::ptrdiff_t>(end));
    if (bos) window.insert(window.begin(), *bos);
    const std::size_t prompt = options.feed.prompt ? options.feed.prompt_of(window.size()) : 0;
    const std::size_t scored = std::max(half ? context / 2 + 1 : first - start + prefix, prompt);
    const auto take = [&](std::size_t next, std::span<const float> logits) {
      if (next < scored || next >= window.size()) return;
      result.nll -= Logprobs(logits)[window[next]];
      ++result.scored;
    };
    const SequenceId sequence = feed(session, window, how, interrupt.token(), take);
    const CacheStats stats = session.stats(sequence);
    result.kept.add(session.drop_at(sequence), stats.dropped_rows);
    result.longest = std::max(result.longest, window.size());
    result.kv_bytes_dense = std::max(result.kv_bytes_dense, stats.bytes_dense);
    ++result.windows;
    session.finish(sequence);
    progress.show(std::to_string(end) + " of " + std::to_string(text.size()) + " tokens, perplexity " +
                  number_text(result.perplexity(), 3));
  }
  progress.clear();
  if (result.scored == 0)
    fail(ErrorCode::argument, "--prompt-tokens", "fewer than the " + std::to_string(result.longest) + " of a window",
         std::to_string(*options.feed.prompt));
  const auto notes = unmeasured(result.kept, options.feed, options.cache, needs, result.longest);
  for (const std::string& note : notes) tool.warn(note);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const std::size_t peak = session.stats().bytes_high_water;

  if (tool.json)
    print({{"perplexity", result.perplexity()},
           {"nll", result.mean()},
           {"tokens", result.scored},
           {"kept", result.kept.mean()},
           {"kept_per_layer", result.kept.per_layer()},
           {"kv_bytes_peak", peak},
           {"kv_bytes_dense", result.kv_bytes_dense},
           {"seconds", seconds.count()},
           {"windows", result.windows},
           {"context", context},
           {"stride", stride},
           {"second_half", half},
           {"text_tokens", text.size()},
           {"prompt_tokens", options.feed.prompt ? nlohmann::ordered_json(*options.feed.prompt) : nullptr},
           {"policy", policy_name(options.cache, model)},
           {"kv", name(options.cache.kv)},
           {"notes", notes}});
  else
    std::cout << "perplexity  " << number_text(result.perplexity(), 4) << "\nnll         "
              << number_text(result.mean(), 4) << "\ntokens      " << result.scored << " in " << result.windows
              << " windows of " << context << "\nkept        " << percent_text(result.kept.mean()) << "\nkv bytes    "
              << peak << " at most, dense " << result.kv_bytes_dense << "\nseconds     "
              << number_text(seconds.count(), 2) << '\n';
  return Exit::ok;
}

}  // namespace

void add_perplexity(CLI::App& app, Tool& tool) {
  auto [command, options] =
      add_command<PerplexityOptions>(app, tool, "perplexity", "How well a text is predicted", perplexity);
  add_model_path(command, options.model);
  add_gates(command, options.model);
  add_tokenizer(command, options.model);
  add_options(command, options.text, "The text");
  auto& stride =
      command.number("--stride", options.stride, at_least(1), "Tokens from one window to the next [no overlap]");
  command
      .add_flag("--second-half", options.second_half,
                "Count the second half of each whole window alone, as llama.cpp's perplexity does")
      ->excludes(&stride);
  add_options(command, options.feed);
  add_options(command, options.cache);
}

}  // namespace pith::tool
