// SPDX-License-Identifier: MIT
// What pith bench measures: a model whose sequences stand at one depth, or at several up to it, of which a fraction of
// the rows is kept.
#pragma once

#include <cstddef>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <vector>

#include "pith/session.hpp"

namespace pith::tool {

struct BenchOptions {
  std::string model, gates, synthetic;
  std::string format = "q8_0", policy;
  KvPair kv = KvFormat::f16;
  std::vector<int> depths = {0, 1024, 4096, 8192};
  int prompt = 512, tokens = 32, repetitions = 5, threads = 0, sequences = 1, gate_dim = 64, chunk = 256;
  std::vector<double> keep = {1};
  bool mixed = false;

  bool prunes() const;
};

/// Figures of one thing, repetition by repetition.
class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  bool empty() const { return values_.empty(); }
  double min() const;
  double max() const;
  double median() const;

 private:
  std::vector<double> values_;
};

/// A session whose sequences stand at one depth, or spread evenly up to it; every measurement works on copies of them.
class Bench {
 public:
  enum class Gate { on, off };

  Bench(const Model& model, const BenchOptions& options, int depth, double keep, Gate gate, std::stop_token stop);

  int depth() const { return depth_; }
  double keep() const { return keep_; }

  /// Seconds to feed `prompt` more tokens to one sequence.
  double prefill();

  /// Mean seconds of a step that gives every sequence one token more.
  double decode();

  const CacheStats& prefilled() const { return prefilled_; }  // one sequence, at the end
  std::size_t decoded_bytes() const { return decoded_bytes_; }
  std::size_t decoded_rows() const { return decoded_rows_; }  // at the end, over layers and sequences

 private:
  SessionOptions settings(Gate gate) const;
  std::vector<Token> random_tokens(std::size_t count);
  void finish();
  void fill();
  void thin(SequenceId sequence);

  const Model& model_;
  const BenchOptions& options_;
  int depth_;
  double keep_;
  std::stop_token stop_;
  std::mt19937_64 engine_{7};
  Session session_;
  std::vector<SequenceId> filled_;  // none at depth 0; no two share pages, which would be read once for both
  CacheStats prefilled_;
  std::size_t decoded_bytes_ = 0, decoded_rows_ = 0;
};

/// All that is measured at one depth and retention.
struct Stand {
  Bench bench;
  std::optional<Bench> without_gate;
  Samples prefill, decode, decode_without_gate;  // seconds: of the prompt, of a step
};

/// Over all layers.
std::size_t live_rows(const CacheStats& stats);

}  // namespace pith::tool
