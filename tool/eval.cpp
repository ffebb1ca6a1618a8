// SPDX-License-Identifier: MIT
// pith eval: given tokens through the code that generates, with their logits and drops.
#include <bit>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"
#include "feed.hpp"
#include "files/output_file.hpp"
#include "ids.hpp"
#include "interrupt.hpp"
#include "kept.hpp"
#include "options.hpp"
#include "pith/logprobs.hpp"

namespace pith::tool {
namespace {

struct EvalOptions {
  ModelOptions model;
  CacheOptions cache;
  std::string tokens;
  std::string logits;  // empty = not written
  bool decode = false;
  bool continuation = false;
  FeedOptions feed;
};

std::string_view bytes_of(std::span<const float> row) {
  return {reinterpret_cast<const char*>(row.data()), row.size_bytes()};
}

nlohmann::ordered_json drops_json(const DropAt& drop_at, bool per_head) {
  if (per_head) return drop_at;
  auto layers = nlohmann::ordered_json::array();
  for (const auto& lanes : drop_at) layers.push_back(lanes.front());
  return layers;
}

Exit eval(const EvalOptions& options, const Tool& tool) {
  const std::vector<Token> tokens = parse_ids(read_file(options.tokens), options.tokens);
  if (tokens.empty()) fail(ErrorCode::format, options.tokens, "at least one token id", "none");
  const Model model = load(options.model);
  const int ids = model.config().vocab_size;
  for (const Token token : tokens)
    if (token >= ids)
      fail(ErrorCode::argument, "--tokens", "ids from 0 to " + std::to_string(ids - 1), std::to_string(token));

  SessionOptions session_options = tool::session_options(options.cache, model, tool);
  FeedOptions how = options.decode ? FeedOptions{1, {}} : options.feed;
  if (how.kvzip) take_kvzip(how, options.model, load_tokenizer(options.model, tool), session_options);
  const prune::Needs needs = session_options.policy->needs();
  const bool per_head = needs.lane_per_head || (needs.gate && model.config().gate_per_head());
  session_options.record_drops = true;
  Session session(model, std::move(session_options));
  Progress progress(tool);
  const Interrupt interrupt;

  static_assert(std::endian::native == std::endian::little);
  std::optional<OutputFile> file;
  if (!options.logits.empty()) file.emplace(options.logits);
  double nll = 0;  // sum, in nats
  const auto take = [&](std::size_t next, std::span<const float> logits) {
    if (next < tokens.size()) nll -= Logprobs(logits)[tokens[next]];
    if (file) file->write(bytes_of(logits));
    progress.show("token " + std::to_string(next) + " of " + std::to_string(tokens.size()));
  };
  if (options.continuation) how.logits = Logits::last;
  const SequenceId sequence = feed(session, tokens, how, interrupt.token(), take);
  progress.clear();
  if (file) file->finish();

  nlohmann::ordered_json mean;  // null: no token was predicted
  const std::size_t predicted = tokens.size() - (options.continuation ? how.prompt_of(tokens.size()) : 1);
  if (predicted > 0) mean = nll / static_cast<double>(predicted);
  const DropAt drop_at = session.drop_at(sequence);
  const CacheStats stats = session.stats(sequence);
  Kept kept;
  kept.add(drop_at, stats.dropped_rows);
  const auto notes = unmeasured(kept, how, options.cache, needs, tokens.size());
  for (const std::string& note : notes) tool.warn(note);
  if (tool.json)
    print({{"tokens", tokens.size()},
           {"nll", mean},
           {"drop_at", drops_json(drop_at, per_head)},
           {"kept", kept.mean()},
           {"kept_per_layer", kept.per_layer()},
           {"kv_bytes", stats.bytes_used},
           {"kv_bytes_dense", stats.bytes_dense},
           {"policy", policy_name(options.cache, model)},
           {"notes", notes}});
  else
    std::cout << "tokens    " << tokens.size() << "\nnll       "
              << (mean.is_null() ? "-" : number_text(mean.get<double>(), 4)) << "\nkept      "
              << percent_text(kept.mean()) << "\nkv bytes  " << stats.bytes_used << " of " << stats.bytes_dense << '\n';
  return Exit::ok;
}

}  // namespace

void add_eval(CLI::App& app, Tool& tool) {
  auto [command, options] = add_command<EvalOptions>(
      app, tool, "eval", "Feed given tokens: their logits, likelihood and what was dropped", eval);
  add_model_path(command, options.model);
  add_gates(command, options.model);
  command.reads("--tokens", options.tokens, "File with a JSON array of token ids; '-' is stdin").required();
  command.writes("--logits", options.logits, "Write the logits: little-endian f32 [tokens][vocabulary]");
  auto* const decode = command.add_flag("--decode", options.decode, "Feed one token at a time");
  add_options(command, options.feed);
  decode->excludes("--prompt-tokens");
  command.add_flag("--continuation", options.continuation, "Logits and likelihood of what follows the prompt alone")
      ->needs("--prompt-tokens");
  add_options(command, options.cache);
}

}  // namespace pith::tool
