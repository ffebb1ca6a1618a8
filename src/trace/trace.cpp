// SPDX-License-Identifier: MIT
#include "pith/trace.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "pith/tensor/ops.hpp"
#include "text/unicode.hpp"

namespace pith {

namespace {

constexpr float unknown = std::numeric_limits<float>::quiet_NaN();

/// Log-probability of `token` and entropy of softmax(logits), in nats.
std::pair<float, float> judge(std::span<const float> logits, Token token) {
  constexpr std::size_t part = 256;   // at a time, so that the scratch stays in the nearest cache
  constexpr float negligible = -100;  // e^x of it; -infinity would make x e^x a NaN
  float shifted[part], weights[part];
  const float largest = ops::max(logits.data(), logits.size());
  double sum = 0, weighted = 0;  // of e^x, and of x e^x, for x = logit - largest
  for (std::size_t first = 0; first < logits.size(); first += part) {
    const std::size_t n = std::min(part, logits.size() - first);
    for (std::size_t i = 0; i < n; ++i) shifted[i] = std::max(logits[first + i] - largest, negligible);
    std::copy_n(shifted, n, weights);
    sum += static_cast<double>(ops::exp_shifted(weights, 0, n));
    weighted += static_cast<double>(ops::dot(shifted, weights, n));
  }
  const double log_sum = std::log(sum);
  const double x = static_cast<double>(logits[static_cast<std::size_t>(token)]) - static_cast<double>(largest);
  return {static_cast<float>(x - log_sum), static_cast<float>(log_sum - weighted / sum)};
}

}  // namespace

double kept_fraction(std::span<const std::int32_t> drop_at) {
  const auto n = static_cast<double>(drop_at.size());
  double seen = 0;
  for (std::size_t j = 0; j < drop_at.size(); ++j) {
    const double until = drop_at[j] < 0 ? n : static_cast<double>(drop_at[j]);
    seen += until - static_cast<double>(j);
  }
  return drop_at.empty() ? 1.0 : seen / (n * (n + 1) / 2);
}

std::vector<std::string> pieces(std::span<const Token> tokens, const Tokenizer& tokenizer) {
  std::vector<std::string> all(tokens.size());
  std::string bytes;      // of a character in the making,
  std::size_t first = 0;  // from this token on
  const auto close = [&] {
    if (!bytes.empty()) all[first] = text::repair(bytes);
    bytes.clear();
  };
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view piece = tokenizer.piece(tokens[i]);
    const bool goes_on = !piece.empty() && (static_cast<unsigned char>(piece[0]) & 0xc0) == 0x80;  // UTF-8
    if (!goes_on) close();
    if (bytes.empty()) first = i;
    if (piece.empty()) all[i] = tokenizer.decode(tokens.subspan(i, 1), Tokenizer::Show::with_specials);
    bytes += piece;
    if (text::unfinished_bytes(bytes) == 0) close();
  }
  close();
  return all;
}

std::vector<float> held(const Trace& trace, std::size_t now) {
  std::vector<float> share(trace.tokens.size());
  for (const auto& layer : trace.drop_at)
    for (const auto& lane : layer)
      for (std::size_t j = 0; j < share.size(); ++j)
        if (lane[j] < 0 || static_cast<std::size_t>(lane[j]) > now)
          share[j] += 1.0f / static_cast<float>(trace.drop_at.size() * layer.size());
  return share;
}

std::vector<double> kept_rows(const std::vector<std::vector<std::int32_t>>& drop_at) {
  if (drop_at.empty()) return {};
  const std::size_t n = drop_at[0].size();
  std::vector<double> change(n + 1);  // from the query before
  for (const auto& lane : drop_at)
    for (std::size_t j = 0; j < n; ++j) {
      change[j] += 1;
      if (lane[j] >= 0) change[std::min(n, static_cast<std::size_t>(lane[j]))] -= 1;
    }
  std::vector<double> rows(n);
  double live = 0;
  for (std::size_t i = 0; i < n; ++i) rows[i] = (live += change[i]) / static_cast<double>(drop_at.size());
  return rows;
}

struct Tracer::Impl {
  struct Record {
    std::vector<Token> tokens;
    std::vector<Drop> drops;
    std::vector<Trace::Pass> passes;
    std::vector<float> logprob, entropy;
  };
  std::map<SequenceId, Record> records;
  bool gate = false;  // the policy asks it, where the model has one
};

Tracer::Tracer() : impl_(std::make_unique<Impl>()) {}
Tracer::~Tracer() = default;
Tracer::Tracer(Tracer&&) noexcept = default;
Tracer& Tracer::operator=(Tracer&&) noexcept = default;

SessionOptions Tracer::attach(SessionOptions options) {
  Impl* const impl = impl_.get();
  options.record_drops = true;
  impl->gate = !options.policy || options.policy->needs().gate;
  options.on_drop = [impl, also = std::move(options.on_drop)](SequenceId id, const Drop& drop) {
    impl->records[id].drops.push_back(drop);
    if (also) also(id, drop);
  };
  options.on_pass = [impl, also = std::move(options.on_pass)](const PassInfo& pass) {
    Impl::Record& record = impl->records[pass.sequence];
    // What a session took back is no part of it.
    while (!record.passes.empty() && record.passes.back().next > pass.first) record.passes.pop_back();
    record.tokens.resize(std::min(record.tokens.size(), static_cast<std::size_t>(pass.first)));
    record.tokens.insert(record.tokens.end(), pass.tokens.begin(), pass.tokens.end());
    record.passes.push_back({pass.first,
                             pass.first + static_cast<Position>(pass.tokens.size()),
                             pass.kv_bytes,
                             {pass.live_rows.begin(), pass.live_rows.end()}});
    if (also) also(pass);
  };
  return options;
}

void Tracer::predicted(SequenceId sequence, std::size_t position, std::span<const float> logits, Token token) {
  Impl::Record& record = impl_->records[sequence];
  if (record.logprob.size() <= position) {
    record.logprob.resize(position + 1, unknown);
    record.entropy.resize(position + 1, unknown);
  }
  std::tie(record.logprob[position], record.entropy[position]) = judge(logits, token);
}

Trace Tracer::trace(const Session& session, SequenceId sequence) const {
  const auto found = impl_->records.find(sequence);
  Trace trace;
  trace.drop_at = session.drop_at(sequence);
  const CacheStats stats = session.stats(sequence);
  const std::size_t pages = (session.length(sequence) + PageLayout::capacity - 1) / PageLayout::capacity;
  const std::size_t rows = trace.drop_at.size() * trace.drop_at[0].size() * pages * PageLayout::capacity;
  if (rows > 0) trace.kv_row_bytes = static_cast<double>(stats.bytes_dense) / static_cast<double>(rows);
  if (found == impl_->records.end()) return trace;
  const Impl::Record& record = found->second;
  trace.tokens = record.tokens;
  trace.tokens.resize(std::min(record.tokens.size(), session.length(sequence)));
  trace.passes = record.passes;
  trace.logprob = record.logprob;
  trace.entropy = record.entropy;
  trace.logprob.resize(trace.tokens.size(), unknown);
  trace.entropy.resize(trace.tokens.size(), unknown);
  if (impl_->gate && session.model().config().gate) {
    for (const auto& layer : trace.drop_at)
      trace.gate_score.emplace_back(layer.size(), std::vector(trace.tokens.size(), unknown));
    const auto length = static_cast<Position>(trace.tokens.size());
    // What another policy evicts, the gate wanted to keep (above 0), or was not asked about (0).
    for (const Drop& drop : record.drops)
      if (drop.until < length && drop.gate_score < 0)
        trace.gate_score[drop.layer][drop.lane][static_cast<std::size_t>(drop.position)] = drop.gate_score;
  }
  return trace;
}

}  // namespace pith
