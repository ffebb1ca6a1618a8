// SPDX-License-Identifier: MIT
// pith eval: given tokens through the code that generates, with their logits and drops.
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "command.hpp"
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
};

/// Little-endian f32 [tokens][vocab_size], row by row.
class LogitsFile {
 public:
  explicit LogitsFile(const std::string& path) : path_(path), file_(path, std::ios::binary | std::ios::trunc) {
    check("opened");
  }

  void write(std::span<const float> row) {
    static_assert(std::endian::native == std::endian::little);
    file_.write(reinterpret_cast<const char*>(row.data()), static_cast<std::streamsize>(row.size_bytes()));
    check("written");
  }

  void close() {
    file_.close();
    check("written");
  }

 private:
  void check(const char* what) const {
    if (!file_) fail(ErrorCode::file, path_ + ": cannot be " + what);
  }

  std::string path_;
  std::ofstream file_;
};

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

  SessionOptions session_options = tool::session_options(options.cache, model, tool);
  const bool per_head = session_options.policy->needs().lane_per_head;
  session_options.record_drops = true;
  Session session(model, std::move(session_options));
  Progress progress(tool);
  const Interrupt interrupt;

  const std::span all(tokens);
  const SequenceId sequence = session.add(options.decode ? all.first(1) : all, Logits::all);
  std::optional<LogitsFile> file;
  if (!options.logits.empty()) file.emplace(options.logits);
  double nll = 0;        // sum, in nats
  std::size_t next = 1;  // the token that the next row of logits predicts
  while (!session.idle()) {
    for (const Output& output : session.step(interrupt.token())) {
      if (next < tokens.size()) nll -= Logprobs(output.logits)[tokens[next]];
      if (file) file->write(output.logits);
      ++next;
    }
    if (options.decode && session.idle() && next - 1 < tokens.size()) session.push(sequence, tokens[next - 1]);
    progress.show("token " + std::to_string(next - 1) + " of " + std::to_string(tokens.size()));
  }
  progress.clear();
  if (file) file->close();

  nlohmann::ordered_json mean;  // null: a single token predicts none
  if (tokens.size() > 1) mean = nll / static_cast<double>(tokens.size() - 1);
  const DropAt drop_at = session.drop_at(sequence);
  const CacheStats stats = session.stats(sequence);
  Kept kept;
  kept.add(drop_at);
  if (tool.json)
    print({{"tokens", tokens.size()},
           {"nll", mean},
           {"drop_at", drops_json(drop_at, per_head)},
           {"kept", kept.mean()},
           {"kept_per_layer", kept.per_layer()},
           {"kv_bytes", stats.bytes_used},
           {"kv_bytes_dense", stats.bytes_dense},
           {"policy", policy_name(options.cache, model)}});
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
  add_options(command, options.model);
  command.add_option("--tokens", options.tokens, "File with a JSON array of token ids; '-' is stdin")
      ->required()
      ->type_name("FILE");
  command.add_option("--logits", options.logits, "Write the logits: little-endian f32 [tokens][vocabulary]")
      ->type_name("FILE");
  command.add_flag("--decode", options.decode, "Feed one token at a time");
  add_options(command, options.cache);
}

}  // namespace pith::tool
