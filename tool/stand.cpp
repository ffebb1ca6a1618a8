// SPDX-License-Identifier: MIT
#include "stand.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <string>

#include "options.hpp"
#include "pith/prune/methods.hpp"

namespace pith::tool {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

bool BenchOptions::prunes() const { return std::ranges::min(keep) < 1; }

double Samples::min() const { return std::ranges::min(values_); }
double Samples::max() const { return std::ranges::max(values_); }
double Samples::median() const {
  std::vector<double> sorted = values_;
  std::ranges::sort(sorted);
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

std::size_t live_rows(const CacheStats& stats) {
  return std::accumulate(stats.live_rows.begin(), stats.live_rows.end(), std::size_t{0});
}

Bench::Bench(const Model& model, const BenchOptions& options, int depth, double keep, Gate gate, std::stop_token stop)
    : model_(model),
      options_(options),
      depth_(depth),
      keep_(keep),
      stop_(std::move(stop)),
      session_(model, settings(gate)) {
  if (depth == 0) return;
  fill();
  if (keep < 1)
    for (const SequenceId sequence : filled_) thin(sequence);
}

double Bench::prefill() {
  const std::vector<Token> prompt = random_tokens(static_cast<std::size_t>(options_.prompt));
  const SequenceId sequence = depth_ > 0 ? session_.fork(filled_.back()) : session_.add(prompt);
  if (depth_ > 0) session_.prompt(sequence, prompt);
  const Clock::time_point start = Clock::now();
  finish();
  const double seconds = seconds_since(start);
  prefilled_ = session_.stats(sequence);
  session_.finish(sequence);
  return seconds;
}

double Bench::decode() {
  std::vector<SequenceId> all;
  for (int i = 0; i < options_.sequences; ++i)
    all.push_back(depth_ > 0 ? session_.fork(filled_[static_cast<std::size_t>(i)]) : session_.add(random_tokens(1)));
  const auto step = [&] {
    for (const SequenceId sequence : all) session_.push(sequence, random_tokens(1).front());
    finish();
  };
  if (depth_ == 0) finish();
  step();  // wakes the threads, brings the copies into memory
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < options_.tokens; ++i) step();
  const double seconds = seconds_since(start) / options_.tokens;
  decoded_bytes_ = decoded_rows_ = 0;
  for (const SequenceId sequence : all) {
    const CacheStats stats = session_.stats(sequence);
    decoded_bytes_ += stats.bytes_used;
    decoded_rows_ += live_rows(stats);
    session_.finish(sequence);
  }
  return seconds;
}

SessionOptions Bench::settings(Gate gate) const {
  SessionOptions settings;
  settings.policy = options_.policy.empty() ? prune::none() : parse_policy(options_.policy);
  // Judges every row and drops none: the figure holds what the gate costs at exactly this retention.
  if (gate == Gate::on) settings.policy = prune::learned_gate({.tau = -std::numeric_limits<float>::infinity()});
  settings.kv = options_.kv;
  settings.threads = options_.threads;
  settings.chunk = options_.chunk;
  settings.context = depth_ + std::max(options_.prompt, options_.tokens + 2);
  return settings;
}

std::vector<Token> Bench::random_tokens(std::size_t count) {
  std::vector<Token> tokens(count);
  for (Token& token : tokens)
    token = static_cast<Token>(engine_() % static_cast<std::uint64_t>(model_.config().vocab_size));
  return tokens;
}

void Bench::finish() {
  while (!session_.idle()) session_.step(stop_);
}

/// Each sequence is a copy of the one before, which reads on to a depth of its own.
void Bench::fill() {
  const auto count = static_cast<std::size_t>(options_.sequences);
  for (std::size_t i = 1; i <= count; ++i) {
    const std::size_t depth =
        std::max(static_cast<std::size_t>(depth_) * (options_.mixed ? i : count) / count, std::size_t{1});
    if (filled_.empty()) {
      filled_.push_back(session_.add(random_tokens(depth)));
    } else {
      const std::string copy = session_.save(filled_.back());  // a fork would share its pages
      filled_.push_back(session_.restore(std::as_bytes(std::span(copy))).sequence);
      const std::size_t more = depth - session_.length(filled_.back());
      if (more > 0) session_.prompt(filled_.back(), random_tokens(more));
    }
    finish();
  }
}

/// Leaves each layer a fraction of the sequence's rows, drawn at random.
void Bench::thin(SequenceId sequence) {
  const std::size_t depth = session_.length(sequence);
  std::vector<Position> positions(depth);
  std::iota(positions.begin(), positions.end(), 0);
  const auto kept = static_cast<std::ptrdiff_t>(std::llround(keep_ * static_cast<double>(depth)));
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(model_.config().n_layers()); ++layer) {
    std::shuffle(positions.begin(), positions.end(), engine_);
    std::vector<Position> dropped(positions.begin() + kept, positions.end());
    session_.forget(sequence, layer, dropped);
  }
}

}  // namespace pith::tool
