// SPDX-License-Identifier: MIT
#include "pith/session.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "pith/cache/kv_cache.hpp"
#include "pith/error.hpp"
#include "pith/nn/decoder.hpp"
#include "pith/prune/methods.hpp"

namespace pith {

namespace {

struct Sequence {
  KvCache cache;
  prune::Scratch scratch;
  std::vector<Token> pending;
  Position length = 0;                        // tokens fed
  Position prompt_begin = 0, prompt_end = 0;  // of the latest prompt

  std::size_t total() const { return static_cast<std::size_t>(length) + pending.size(); }
};

prune::AnyPolicy policy_of(const Config& config, const SessionOptions& options) {
  if (options.policy) return *options.policy;
  return config.gate ? prune::AnyPolicy(prune::learned_gate()) : prune::none();
}

/// What the policy needs, and what a record of its drops wants to know beside it.
prune::Needs needs_of(const prune::AnyPolicy& policy, const SessionOptions& options) {
  prune::Needs needs = policy.needs();
  if (needs.gate && (options.record_drops || options.on_drop)) needs.evidence = needs.evidence | column::gate_logit;
  return needs;
}

KvLayouts layouts_of(const Config& config, const SessionOptions& options, const prune::Needs& needs) {
  if (needs.gate && !config.gate)
    fail(ErrorCode::unsupported, "policy", "a model with learned gates (its own, or a sidecar's)", "none");
  const auto check = [](std::size_t asked, int there, const std::string& what) {
    if (asked > static_cast<std::size_t>(there))
      fail(ErrorCode::argument, "policy", what + "s below the model's " + std::to_string(there),
           what + " " + std::to_string(asked - 1));
  };
  check(needs.layers, config.n_layers, "layer");
  check(needs.kv_heads, config.n_kv_heads, "kv-head");
  if (config.head_dim % block_values(options.kv) != 0)
    fail(ErrorCode::unsupported, "cache format " + std::string(name(options.kv)),
         "a head_dim that is a multiple of " + std::to_string(block_values(options.kv)),
         std::to_string(config.head_dim));
  const GateKeys gate_keys = options.gate_keys.value_or(options.kv == KvFormat::f32 ? GateKeys::f32 : GateKeys::f16);
  PageLayout::Shape gate{.heads = 0,
                         .gate_dim = needs.gate ? static_cast<std::size_t>(config.gate->dim) : 0,
                         .gate_keys = gate_keys == GateKeys::f32 ? KvFormat::f32 : KvFormat::f16,
                         .evidence = column::holders};
  const bool apart = needs.gate && needs.lane_per_head;
  return {PageLayout({.keys = options.kv,
                      .values = options.kv,
                      .heads = needs.lane_per_head ? 1 : static_cast<std::size_t>(config.n_kv_heads),
                      .head_dim = static_cast<std::size_t>(config.head_dim),
                      .gate_dim = apart ? 0 : gate.gate_dim,
                      .gate_keys = gate.gate_keys,
                      .evidence = needs.evidence}),
          apart ? std::optional<PageLayout>(gate) : std::nullopt};
}

std::size_t context_of(const Config& config, const SessionOptions& options) {
  prune::at_least(1, options.chunk, "chunk");
  prune::at_least(0, options.threads, "threads");
  prune::at_least(0, options.context, "context");
  // Learned positions end where the table does; rotary ones go on.
  if (config.learned_positions && options.context > config.context)
    fail(ErrorCode::argument, "context", "at most the model's " + std::to_string(config.context) + " positions",
         std::to_string(options.context));
  return static_cast<std::size_t>(options.context > 0 ? options.context : config.context);
}

}  // namespace

struct Session::Impl {
  Impl(Model m, SessionOptions o)
      : model(std::move(m)),
        options(std::move(o)),
        config(model.config()),
        policy(policy_of(config, options)),
        needs(needs_of(policy, options)),
        context(context_of(config, options)),
        layouts(layouts_of(config, options, needs)),
        pool(options.kv_budget),
        threads(options.threads),
        workspace(config, needs) {}

  Sequence& find(SequenceId id) { return const_cast<Sequence&>(std::as_const(*this).find(id)); }
  const Sequence& find(SequenceId id) const {
    const auto found = sequences.find(id);
    if (found == sequences.end())
      fail(ErrorCode::argument, "sequence", "one that was added and not finished",
           std::to_string(static_cast<std::uint32_t>(id)));
    return found->second;
  }

  /// The sequence, which no cancelled step has left halfway.
  Sequence& between_steps(SequenceId id, const char* what) {
    Sequence& sequence = find(id);
    for (const Segment& segment : pass.segments)
      if (segment.cache == &sequence.cache)
        fail(ErrorCode::argument, what, "a sequence between two steps", "one whose step was cancelled halfway");
    return sequence;
  }

  void check_positions(const Sequence& sequence, std::span<const Position> positions, const char* what) const {
    for (const Position position : positions)
      if (position < 0 || position >= sequence.length)
        fail(ErrorCode::argument, what, "a position below the sequence's length of " + std::to_string(sequence.length),
             std::to_string(position));
  }

  std::size_t lanes_per_layer() const { return needs.lane_per_head ? static_cast<std::size_t>(config.n_kv_heads) : 1; }

  Sequence make_sequence() {
    constexpr std::size_t most_expected_rows = 8192;
    return {KvCache(layouts, pool, static_cast<std::size_t>(config.n_layers()), lanes_per_layer(),
                    std::min(context, most_expected_rows),
                    options.record_drops || options.on_drop ? DropLog::Keep::history : DropLog::Keep::counts),
            {},
            {},
            0,
            0,
            0};
  }

  SequenceId insert(Sequence&& sequence) {
    const SequenceId id{next_id++};
    sequences.emplace(id, std::move(sequence));
    return id;
  }

  void push(Sequence& sequence, std::span<const Token> tokens) {
    if (tokens.empty()) fail(ErrorCode::argument, "tokens", "at least one", "none");
    if (sequence.total() + tokens.size() > context)
      fail(ErrorCode::argument, "sequence", "at most the context's " + std::to_string(context) + " tokens",
           std::to_string(sequence.total() + tokens.size()));
    for (const Token token : tokens)
      if (token < 0 || token >= config.vocab_size)
        fail(ErrorCode::argument, "token", "an id from 0 to " + std::to_string(config.vocab_size - 1),
             std::to_string(token));
    sequence.pending.insert(sequence.pending.end(), tokens.begin(), tokens.end());
    // Several tokens waiting are a prompt; one that follows others alone is a step of decoding.
    if (sequence.pending.size() > 1 || sequence.length == 0) {
      if (sequence.length >= sequence.prompt_end) sequence.prompt_begin = sequence.length;
      sequence.prompt_end = static_cast<Position>(sequence.total());
    }
  }

  /// Chooses the next pass: every sequence that decodes, then prompts, at most `chunk` of their tokens together and
  /// never more than the budget has pages for. A sequence's own chunks do not depend on the others.
  void plan() {
    std::size_t bytes = pool.available();
    std::size_t room = static_cast<std::size_t>(options.chunk);
    for (const bool prompts : {false, true}) {
      for (auto& [id, sequence] : sequences) {
        if (sequence.pending.empty() || (sequence.pending.size() > 1) != prompts) continue;
        std::size_t count = std::min(sequence.pending.size(), static_cast<std::size_t>(options.chunk));
        if (prompts && count > room) continue;
        while (count > 0 && sequence.cache.bytes_for(count) > bytes) count /= 2;
        if (count == 0) continue;
        if (prompts) room -= count;
        if (bytes != SIZE_MAX) bytes -= sequence.cache.bytes_for(count);
        add_segment(id, sequence, count);
      }
    }
    if (pass.empty())
      fail(ErrorCode::budget, "key-value cache",
           "pages for one more token within " + std::to_string(options.kv_budget) + " bytes",
           std::to_string(pool.bytes_used()) + " bytes in use");
  }

  void add_segment(SequenceId id, Sequence& sequence, std::size_t count) {
    pass.segments.push_back({.cache = &sequence.cache,
                             .scratch = &sequence.scratch,
                             .row = pass.tokens.size(),
                             .count = count,
                             .first = sequence.length,
                             .prompt_begin = sequence.prompt_begin,
                             .prompt_end = sequence.prompt_end});
    owners.push_back(id);
    for (std::size_t i = 0; i < count; ++i) {
      pass.tokens.push_back(sequence.pending[i]);
      pass.positions.push_back(sequence.length + static_cast<Position>(i));
    }
  }

  /// Gathering threads costs some tens of microseconds; a small model's token takes less.
  bool worth_gathering() const {
    constexpr std::uint64_t least_work = std::uint64_t{1} << 21;  // multiply-adds
    std::uint64_t tokens = pass.tokens.size();
    for (const auto& [id, sequence] : sequences) tokens += sequence.pending.size();
    return tokens * (parameters + pool.bytes_used() / sizeof(float)) >= least_work;
  }

  /// One forward pass, or what is left of it.
  void advance(const std::stop_token& stop) {
    if (pass.empty()) plan();
    if (!forward(config, model.weights(), policy, pass, workspace, threads, stop))
      fail(ErrorCode::cancelled, "step: stopped before layer " + std::to_string(pass.layer));
    complete();
  }

  /// Takes what the finished pass fed off the pending tokens, and computes the logits that are asked for.
  void complete() {
    output_rows.clear();
    for (std::size_t s = 0; s < pass.segments.size(); ++s) {
      const Segment& segment = pass.segments[s];
      if (segment.cache == nullptr) continue;
      Sequence& sequence = find(owners[s]);
      sequence.pending.erase(sequence.pending.begin(),
                             sequence.pending.begin() + static_cast<std::ptrdiff_t>(segment.count));
      sequence.length = segment.next();
      const std::size_t end = segment.row + segment.count;
      if (options.logits == Logits::all)
        for (std::size_t t = segment.row; t < end; ++t) output_rows.push_back({owners[s], t});
      else if (sequence.pending.empty())
        output_rows.push_back({owners[s], end - 1});
    }
    compute_logits();
    fresh.clear();
    reported.clear();
    for (std::size_t s = 0; s < pass.segments.size(); ++s) {
      const Segment& segment = pass.segments[s];
      if (segment.cache == nullptr) continue;
      segment.cache->log().take_fresh([&](const Drop& drop) {
        if (options.on_drop) fresh.emplace_back(owners[s], drop);
      });
      reported.push_back({owners[s], segment});
    }
    const std::vector<Token> tokens = options.on_pass ? pass.tokens : std::vector<Token>{};
    pass.clear();
    owners.clear();
    // Last, as the caller's code may throw.
    for (const auto& [id, drop] : fresh) options.on_drop(id, drop);
    for (const auto& [id, segment] : reported) {
      if (options.on_pass) options.on_pass(info(id, segment, tokens));
      if (options.on_prefill && segment.first < segment.prompt_end)
        options.on_prefill({id, static_cast<std::size_t>(segment.next() - segment.prompt_begin),
                            static_cast<std::size_t>(segment.prompt_end - segment.prompt_begin)});
    }
  }

  PassInfo info(SequenceId id, const Segment& segment, std::span<const Token> tokens) {
    live_rows.clear();
    for (std::size_t l = 0; l < segment.cache->layers(); ++l) live_rows.push_back(segment.cache->rows(l));
    return {id, segment.first, tokens.subspan(segment.row, segment.count), segment.cache->bytes(), live_rows};
  }

  void compute_logits() {
    final.resize(output_rows.size(), static_cast<std::size_t>(config.d_model));
    logits.resize(output_rows.size(), static_cast<std::size_t>(config.vocab_size));
    if (output_rows.empty()) return;
    for (std::size_t i = 0; i < output_rows.size(); ++i)
      std::ranges::copy(workspace.x[output_rows[i].second], final.values()[i].begin());
    unembed(config, model.weights(), final, logits.view(), threads);
    for (std::size_t i = 0; i < output_rows.size(); ++i) outputs.push_back({output_rows[i].first, logits[i]});
  }

  CacheStats stats_of(std::span<const Sequence* const> some) const {
    CacheStats stats;
    stats.bytes_reserved = pool.bytes_reserved();
    stats.bytes_high_water = pool.bytes_high_water();
    stats.policy = policy.describe();
    stats.live_rows.resize(static_cast<std::size_t>(config.n_layers()));
    const std::size_t lanes = static_cast<std::size_t>(config.n_layers()) * lanes_per_layer();
    for (const Sequence* sequence : some) {
      const auto length = static_cast<std::size_t>(sequence->length);
      stats.bytes_used += sequence->cache.bytes();
      stats.bytes_dense += sequence->cache.bytes_of(length);
      for (std::size_t l = 0; l < stats.live_rows.size(); ++l) stats.live_rows[l] += sequence->cache.rows(l);
      stats.seen_rows += lanes * length;
      stats.dropped_rows += sequence->cache.log().dropped();
    }
    return stats;
  }

  const Model model;
  const SessionOptions options;
  const Config& config;  // the model's
  const prune::AnyPolicy policy;
  const prune::Needs needs;
  const std::size_t context;
  const std::uint64_t parameters = model.parameters();
  const KvLayouts layouts;
  PagePool pool;
  const Threads threads;
  std::map<SequenceId, Sequence> sequences;  // after the pool: their pages return to it
  std::uint32_t next_id = 0;

  Workspace workspace;
  Pass pass;
  std::vector<SequenceId> owners;                               // of the pass's segments
  std::vector<std::pair<SequenceId, std::size_t>> output_rows;  // of the pass
  std::vector<std::pair<SequenceId, Drop>> fresh;
  std::vector<std::pair<SequenceId, Segment>> reported;
  std::vector<std::size_t> live_rows;
  Activations final;     // [outputs, d_model]
  Tensor<float> logits;  // [outputs, vocab_size]
  std::vector<Output> outputs;
};

Session::Session(Model model, SessionOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), std::move(options))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

SequenceId Session::add(std::span<const Token> prompt) {
  Sequence sequence = impl_->make_sequence();
  impl_->push(sequence, prompt);
  return impl_->insert(std::move(sequence));
}

void Session::push(SequenceId sequence, Token token) { push(sequence, std::span(&token, 1)); }

void Session::push(SequenceId sequence, std::span<const Token> tokens) { impl_->push(impl_->find(sequence), tokens); }

std::span<const Output> Session::step(std::stop_token stop) {
  Impl& s = *impl_;
  s.outputs.clear();
  const auto advance = [&] {
    while (s.outputs.empty() && !idle()) s.advance(stop);
  };
  s.worth_gathering() ? s.threads.gather(advance) : advance();
  return s.outputs;
}

bool Session::idle() const {
  return std::ranges::all_of(impl_->sequences, [](const auto& entry) { return entry.second.pending.empty(); });
}

void Session::finish(SequenceId sequence) {
  const Sequence& found = impl_->find(sequence);
  for (Segment& segment : impl_->pass.segments)
    if (segment.cache == &found.cache) segment.cache = nullptr;
  impl_->sequences.erase(sequence);
}

SequenceId Session::fork(SequenceId sequence) {
  const Sequence& from = impl_->between_steps(sequence, "fork");
  if (from.cache.bytes() > impl_->pool.available())
    fail(ErrorCode::budget, "key-value cache", "pages for a copy of the sequence within the budget",
         std::to_string(impl_->pool.available()) + " bytes left of " + std::to_string(from.cache.bytes()) + " needed");
  Sequence copy = impl_->make_sequence();
  copy.cache.copy_from(from.cache);
  copy.pending = from.pending;
  copy.length = from.length;
  copy.prompt_begin = from.prompt_begin;
  copy.prompt_end = from.prompt_end;
  return impl_->insert(std::move(copy));
}

void Session::keep(SequenceId sequence, std::span<const Position> positions) {
  Sequence& s = impl_->between_steps(sequence, "keep");
  impl_->check_positions(s, positions, "keep");
  for (std::size_t layer = 0; layer < s.cache.layers(); ++layer)
    s.cache.keep(layer, positions, impl_->config.layers[layer].window);
}

void Session::forget(SequenceId sequence, std::size_t layer, std::span<const Position> positions) {
  Sequence& s = impl_->between_steps(sequence, "forget");
  impl_->check_positions(s, positions, "forget");
  if (layer >= s.cache.layers())
    fail(ErrorCode::argument, "forget", "a layer below " + std::to_string(s.cache.layers()), std::to_string(layer));
  s.cache.forget(layer, positions, s.length);
}

std::size_t Session::length(SequenceId sequence) const {
  return static_cast<std::size_t>(impl_->find(sequence).length);
}

CacheStats Session::stats() const {
  std::vector<const Sequence*> all;
  for (const auto& [id, sequence] : impl_->sequences) all.push_back(&sequence);
  return impl_->stats_of(all);
}

CacheStats Session::stats(SequenceId sequence) const {
  const Sequence* const one = &impl_->find(sequence);
  return impl_->stats_of(std::span(&one, 1));
}

std::vector<std::vector<std::vector<std::int32_t>>> Session::drop_at(SequenceId sequence) const {
  const Sequence& s = impl_->find(sequence);
  const DropLog& log = s.cache.log();
  require(log.has_history(), ErrorCode::argument, "drop_at: the session was made without record_drops");
  std::vector<std::vector<std::vector<std::int32_t>>> all(
      s.cache.layers(),
      std::vector(s.cache.lanes_per_layer(), std::vector<std::int32_t>(static_cast<std::size_t>(s.length), -1)));
  for (std::size_t layer = 0; layer < all.size(); ++layer)
    for (std::size_t lane = 0; lane < all[layer].size(); ++lane)
      for (Position j = 0; j < s.length; ++j)
        // Dropped for the next token is not yet dropped from what any token saw.
        if (const Position until = log.until(layer, lane, j); until < s.length)
          all[layer][lane][static_cast<std::size_t>(j)] = until;
  return all;
}

std::size_t Session::trim() { return impl_->pool.trim(); }
const Model& Session::model() const { return impl_->model; }
const prune::AnyPolicy& Session::policy() const { return impl_->policy; }

}  // namespace pith
