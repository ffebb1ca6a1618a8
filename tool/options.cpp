// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <random>
#include <system_error>

#include "flags.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/spec.hpp"

namespace pith::tool {

void add_model_path(CommandLine& line, ModelOptions& options) {
  line.reads_model("-m,--model", options.path, "Hugging Face directory, or .gguf file").required();
}

void add_gates(CommandLine& line, ModelOptions& options) {
  line.reads("--gates", options.gates, "Sidecar safetensors with gates, laid over the model");
  add_no_mmap(line, options);
}

void add_no_mmap(CommandLine& line, ModelOptions& options) {
  line.add_flag("--no-mmap", options.no_mmap, "Read the weights into memory at once, in place of mapping their files");
}

void add_tokenizer(CommandLine& line, ModelOptions& options) {
  line.add_option("--pre", options.pre,
                  "How a GGUF's tokenizer cuts texts into words, as in tokenizer.ggml.pre: llama-bpe, qwen2, gpt-2 ... "
                  "[what the file says]")
      ->type_name("NAME");
}

Model load(const ModelOptions& options) {
  LoadOptions load;
  if (!options.gates.empty()) load.gates = options.gates;
  load.map = !options.no_mmap;
  return Model::load(options.path, load);
}

Tokenizer load_tokenizer(const ModelOptions& options, const Tool& tool) {
  Tokenizer tokenizer = Tokenizer::load(options.path, {.pre = options.pre});
  for (const std::string& note : tokenizer.notes()) tool.warn(in_flags(note));
  return tokenizer;
}

void add_kv_format(CommandLine& line, KvPair& formats) {
  std::string list;
  for (const KvFormat one : kv_formats) list.append(name(one)).append(", ");
  list += "or two such as k=q8_0,v=q4_0";
  const auto read = [&formats, list](const std::vector<std::string>& words) {
    const std::optional<KvPair> named = kv_pair_named(words.front());
    if (!named) throw CLI::ValidationError("--kv", "expected " + list + ", found '" + words.front() + "'");
    formats = *named;
    return true;
  };
  line.add_option("--kv", CLI::callback_t(read), "Format of the cache: " + list + " [" + name(formats) + "]")
      ->type_name("FORMAT");
}

void add_threads(CommandLine& line, int& threads) {
  line.number("-t,--threads", threads, {0, most_threads}, "Threads [one per core]");
}

void add_chunk(CommandLine& line, int& chunk) {
  line.number("-b,--batch-size", chunk, at_least(1),
              "Tokens of a prompt that are read together [" + std::to_string(chunk) + "]");
}

void add_count(CommandLine& line, int& tokens) {
  line.number("-n,--predict", tokens, at_least(-1),
              "Tokens to generate; -1: until the text ends or the context is full [" + std::to_string(tokens) + "]");
}

void add_options(CommandLine& line, CacheOptions& options) {
  line.add_option("--policy", options.policy,
                  "What is forgotten: none, or a chain such as gate,h2o(rows=1024,recent=256) [gate if the model has "
                  "gates, dms if DMS taught it, else none]")
      ->type_name("SPEC");
  add_cache(line, options);
}

void add_cache(CommandLine& line, CacheOptions& options) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  line.number("--tau", options.tau, Range<float>{-infinity, infinity},
              "Strength of the learned gate: 0 as trained, higher forgets more")
      .type_name("X");
  add_kv_format(line, options.kv);
  line.add_option("--gate-keys", options.gate_keys,
                  "Format of the gate's keys: f32 or f16 [f32 if the cache is, else f16]")
      ->check(CLI::IsMember({"f32", "f16"}).description(""))
      ->type_name("FORMAT");
  line.number("-c,--ctx-size", options.context, at_least(0), "Longest sequence in tokens [the model's]");
  add_threads(line, options.threads);
  add_chunk(line, options.chunk);
}

prune::AnyPolicy parse_policy(const std::string& spec, float tau) try {
  return prune::parse(spec, tau);
} catch (const Error& error) {
  const std::string_view message = error.what();
  fail(error.code(), (message.starts_with("policy") ? "--" : "--policy: ") + std::string(message));
}

prune::AnyPolicy policy_of(const CacheOptions& options, const Model& model) {
  const char* const usual = model.config().gate ? "gate" : model.config().dms ? "dms" : "none";
  return parse_policy(options.policy.empty() ? usual : options.policy, options.tau.value_or(0));
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
  if (options.tau && !session.policy->needs().gate) tool.warn("--tau has no effect: the policy has no gate");
  if (options.context > model.config().context)
    tool.warn("--ctx-size/-c: " + std::to_string(options.context) + " tokens are more than the " +
              std::to_string(model.config().context) + " that the model was trained for");
  session.kv = options.kv;
  if (!options.gate_keys.empty()) session.gate_keys = options.gate_keys == "f32" ? GateKeys::f32 : GateKeys::f16;
  session.threads = options.threads;
  session.chunk = options.chunk;
  session.context = options.context;
  return session;
}

void add_options(CommandLine& line, TextOptions& options, const char* what) {
  auto* const text = line.add_option("-p,--prompt", options.text, what)->type_name("TEXT");
  line.reads("-f,--file", options.file, "The same from a file; '-' is stdin").excludes(text);
}

std::string TextOptions::read() const {
  if (text) return *text;
  return file ? read_file(*file) : "";
}

std::vector<CLI::Option*> add_options(CommandLine& line, SamplingOptions& options) {
  SamplerOptions& o = options.sampler;
  return {
      &line.seed("-s,--seed", options.seed, "Seed of the random choices [-1: another one each time]"),
      line.number("--temp", o.temperature, at_least(0.0f), "Temperature; 0 takes the likeliest token [0.8]")
          .type_name("X"),
      line.number("--top-k", o.top_k, at_least(0), "Choose among the K likeliest; 0 = all [40]").type_name("K"),
      line.number("--top-p", o.top_p, {0, 1, true}, "Choose among those that hold this probability [0.95]")
          .type_name("P"),
      line.number("--min-p", o.min_p, {0, 1}, "Choose among those at least P times as likely as the likeliest [0.05]")
          .type_name("P"),
      line.number("--repeat-penalty", o.repetition_penalty, {.least = 0, .above = true},
                  "Penalty on recent tokens; 1 = none [1]")
          .type_name("X"),
      &line.number("--repeat-last-n", o.repetition_window, at_least(0), "How many tokens are recent [64]"),
  };
}

void add_options(CommandLine& line, DraftOptions& options) {
  line.number("--draft", options.tokens, {0, DraftOptions::most},
              "Guess up to so many tokens ahead, from the text before; the text stays the same");
  line.number("--draft-layers", options.layers, {0, 1000},
              "Let the model's first layers guess instead, if it was trained for that");
}

SamplerOptions sampler_options(const SamplingOptions& options) {
  SamplerOptions sampler = options.sampler;
  // 32 bits can be typed in again.
  sampler.seed = options.seed ? *options.seed : std::random_device()();
  return sampler;
}

std::optional<Token> bos_of(const Tokenizer& tokenizer) {
  const std::vector<Token> tokens = tokenizer.encode("a", Specials::as_trained);
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
