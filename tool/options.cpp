// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "command.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"

namespace pith::tool {

void add_model_path(CLI::App& app, ModelOptions& options) {
  app.add_option("-m,--model", options.path, "Hugging Face directory, or .gguf file")->required()->type_name("PATH");
}

void add_options(CLI::App& app, ModelOptions& options) {
  add_model_path(app, options);
  app.add_option("--gates", options.gates, "Sidecar safetensors with gates, laid over the model")->type_name("FILE");
}

Model load(const ModelOptions& options) {
  LoadOptions load;
  if (!options.gates.empty()) load.gates = options.gates;
  return Model::load(options.path, load);
}

void add_options(CLI::App& app, CacheOptions& options) {
  app.add_option("--policy", options.policy,
                 "What is forgotten: none, or a chain such as gate,h2o(rows=1024,recent=256) [gate if the model has "
                 "gates, else none]")
      ->type_name("SPEC");
  app.add_option("--tau", options.tau, "Strength of the learned gate: 0 as trained, higher forgets more")
      ->type_name("X");
  app.add_option("--kv", options.kv, "Format of the cache: f32, f16 or q8_0 [f32]")
      ->check(CLI::IsMember({"f32", "f16", "q8_0"}).description(""))
      ->type_name("FORMAT");
  app.add_option("--gate-keys", options.gate_keys,
                 "Format of the gate's keys: f32 or f16 [f32 if the cache is, else f16]")
      ->check(CLI::IsMember({"f32", "f16"}).description(""))
      ->type_name("FORMAT");
  app.add_option("-c,--ctx-size", options.context, "Longest sequence in tokens [the model's]")
      ->check(at_least(0))
      ->type_name("N");
  app.add_option("-t,--threads", options.threads, "Threads [one per core]")->check(at_least(0))->type_name("N");
  app.add_option("-b,--batch-size", options.chunk, "Tokens of a prompt per forward pass [256]")
      ->check(at_least(1))
      ->type_name("N");
}

prune::AnyPolicy policy_of(const CacheOptions& options, const Model& model) {
  const char* const usual = model.config().gate ? "gate" : "none";
  return prune::parse(options.policy.empty() ? usual : options.policy, options.tau.value_or(0));
}

std::string policy_name(const CacheOptions& options, const Model& model) {
  return policy_of(options, model).describe();
}

std::size_t context_of(const CacheOptions& options, const Model& model) {
  return static_cast<std::size_t>(options.context > 0 ? options.context : model.config().context);
}

SessionOptions session_options(const CacheOptions& options, const Model& model, const Tool& tool) {
  SessionOptions session;
  session.policy = policy_of(options, model);
  if (options.tau && !session.policy->needs().gate) tool.note("warning: --tau has no effect: the policy has no gate");
  session.kv = *kv_format_named(options.kv);
  if (!options.gate_keys.empty()) session.gate_keys = options.gate_keys == "f32" ? GateKeys::f32 : GateKeys::f16;
  session.threads = options.threads;
  session.chunk = options.chunk;
  session.context = options.context;
  return session;
}

void add_options(CLI::App& app, TextOptions& options, const char* what) {
  auto* const text = app.add_option("-p,--prompt", options.text, what)->type_name("TEXT");
  app.add_option("-f,--file", options.file, "The same from a file; '-' is stdin")->type_name("FILE")->excludes(text);
}

std::string TextOptions::read() const {
  if (text) return *text;
  return file ? read_file(*file) : "";
}

void add_options(CLI::App& app, SamplingOptions& options) {
  SamplerOptions& o = options.sampler;
  app.add_option("-s,--seed", options.seed, "Seed of the random choices [-1: another one each time]")
      ->check(at_least(std::int64_t{-1}))
      ->type_name("N");
  app.add_option("--temp", o.temperature, "Temperature; 0 takes the likeliest token [0.8]")->type_name("X");
  app.add_option("--top-k", o.top_k, "Choose among the K likeliest; 0 = all [40]")->type_name("K");
  app.add_option("--top-p", o.top_p, "Choose among those that hold this probability [0.95]")->type_name("P");
  app.add_option("--min-p", o.min_p, "Choose among those at least P times as likely as the likeliest [0.05]")
      ->type_name("P");
  app.add_option("--repeat-penalty", o.repetition_penalty, "Penalty on recent tokens; 1 = none [1]")->type_name("X");
  app.add_option("--repeat-last-n", o.repetition_window, "How many tokens are recent [64]")->type_name("N");
}

SamplerOptions sampler_options(const SamplingOptions& options) {
  SamplerOptions sampler = options.sampler;
  // 32 bits can be typed in again.
  sampler.seed = options.seed >= 0 ? static_cast<std::uint64_t>(options.seed) : std::random_device()();
  return sampler;
}

std::optional<Token> bos_of(const Tokenizer& tokenizer) {
  const std::vector<Token> tokens = tokenizer.encode("a");
  return !tokens.empty() && tokens.front() == tokenizer.bos() ? tokenizer.bos() : std::nullopt;
}

std::string read_file(const std::string& path) {
  std::ifstream file;
  if (path != "-") {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) fail(ErrorCode::file, path, "a file", "a directory");
    file.open(path, std::ios::binary);
    if (!file) fail(ErrorCode::file, path + ": cannot be opened");
  }
  std::istream& in = path == "-" ? std::cin : file;
  std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad()) fail(ErrorCode::file, path + ": cannot be read");
  return bytes;
}

namespace {

std::vector<Token> json_ids(const std::string& text, const std::string& where) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_object() && json.contains("tokens")) json = json["tokens"].get<nlohmann::json>();
  if (!json.is_array())
    fail(ErrorCode::format, where, "a JSON array of token ids", json.is_discarded() ? "no valid JSON" : "other JSON");
  std::vector<Token> ids;
  ids.reserve(json.size());
  for (const auto& id : json) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<Token>::max())
      fail(ErrorCode::format, where, "token ids",
           id.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 40));
    ids.push_back(id.get<Token>());
  }
  return ids;
}

}  // namespace

std::vector<Token> parse_ids(const std::string& text, const std::string& where) {
  constexpr std::string_view separators = " \t\r\n,";
  std::size_t at = text.find_first_not_of(separators);
  if (at == std::string::npos) return {};
  if (text[at] == '[' || text[at] == '{') return json_ids(text, where);
  std::vector<Token> ids;
  while (at != std::string::npos) {
    const std::size_t end = std::min(text.find_first_of(separators, at), text.size());
    Token id = -1;
    const auto [past, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || past != text.data() + end || id < 0)
      fail(ErrorCode::format, where, "token ids", "'" + text.substr(at, std::min<std::size_t>(end - at, 40)) + "'");
    ids.push_back(id);
    at = text.find_first_not_of(separators, end);
  }
  return ids;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

}  // namespace pith::tool
