// SPDX-License-Identifier: MIT
// Groups of flags that subcommands share, and what they stand for.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"
#include "pith/generator.hpp"
#include "pith/model.hpp"
#include "pith/sampler.hpp"
#include "pith/session.hpp"
#include "pith/tokenizer.hpp"
#include "tool.hpp"

namespace pith::tool {

struct ModelOptions {
  std::string path;
  std::string gates;  // empty = the model's own
  std::string pre;    // empty = what the tokenizer's file says
  bool no_mmap = false;
};
void add_model_path(CommandLine& line, ModelOptions& options);
void add_gates(CommandLine& line, ModelOptions& options);  // and --no-mmap
void add_no_mmap(CommandLine& line, ModelOptions& options);
void add_tokenizer(CommandLine& line, ModelOptions& options);
Model load(const ModelOptions& options);
/// Warns of what is doubtful about it.
Tokenizer load_tokenizer(const ModelOptions& options, const Tool& tool);

struct CacheOptions {
  std::string policy;  // empty = what the model has, gate or dms, else none
  std::optional<float> tau;
  KvPair kv = KvFormat::f32;
  std::string gate_keys;  // empty = by kv
  int context = 0;        // 0 = the model's
  int threads = 0;        // 0 = one per core
  int chunk = 256;
};
void add_options(CommandLine& line, CacheOptions& options);
/// The same without --policy.
void add_cache(CommandLine& line, CacheOptions& options);
/// --kv: one of KvFormats for keys and values, or k=FORMAT,v=FORMAT.
void add_kv_format(CommandLine& line, KvPair& formats);
void add_threads(CommandLine& line, int& threads);
void add_chunk(CommandLine& line, int& chunk);

/// The policy that a --policy spells. Throws Error (argument), naming the flag.
prune::AnyPolicy parse_policy(const std::string& spec, float tau = 0);

/// The session that they ask for. Warns where a flag has no effect, or asks for more than the model was trained for.
SessionOptions session_options(const CacheOptions& options, const Model& model, const Tool& tool);

/// The policy that they ask for, and how it describes itself.
prune::AnyPolicy policy_of(const CacheOptions& options, const Model& model);
std::string policy_name(const CacheOptions& options, const Model& model);

std::size_t context_of(const CacheOptions& options, const Model& model);

struct TextOptions {
  std::optional<std::string> text, file;

  bool given() const { return text || file; }
  /// The text given, the bytes of the file ("-": of stdin), or nothing.
  std::string read() const;
};
void add_options(CommandLine& line, TextOptions& options, const char* what);

struct SamplingOptions {
  SamplerOptions sampler = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repetition_penalty = 1};
  std::optional<std::uint64_t> seed;  // none = another one each time
};
std::vector<CLI::Option*> add_options(CommandLine& line, SamplingOptions& options);
SamplerOptions sampler_options(const SamplingOptions& options);

void add_options(CommandLine& line, DraftOptions& options);

/// The token that the tokenizer puts before a text.
std::optional<Token> bos_of(const Tokenizer& tokenizer);

/// -n, the tokens to generate; -1 = until the text ends or the context is full.
void add_count(CommandLine& line, int& tokens);

/// All bytes of a file; "-" is stdin. Throws Error (file).
std::string read_file(const std::string& path);

/// The lines of a text, without their ends.
std::vector<std::string> lines_of(const std::string& text);

}  // namespace pith::tool
