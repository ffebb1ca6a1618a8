// SPDX-License-Identifier: MIT
#include "pith/session.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "pith/cache/kv_cache.hpp"
#include "pith/error.hpp"
#include "pith/nn/decoder.hpp"
#include "pith/prune/methods.hpp"
#include "pith/prune/replay.hpp"

namespace pith {

namespace {

/// What one call gave a sequence: a prompt, or a decoded token.
struct Stretch {
  enum class Kind { prompt, decoded } kind;
  Position begin, end;
  Logits logits;
};

/// Once the tokens [begin, end) are all read, the pins alone stay of them.
struct Compression {
  Position begin, end;
  std::vector<Position> pins;  // ascending
};

struct Sequence {
  KvCache cache;
  prune::Scratch scratch = {};
  std::vector<Token> pending = {};
  std::vector<Stretch> stretches = {};        // that have pending tokens, in order
  Position length = 0;                        // tokens fed
  Position prompt_begin = 0, prompt_end = 0;  // of the latest prompt that is being read
  std::optional<float> tau = {};
  std::vector<Compression> compressions = {};  // to come

  Position total() const { return length + static_cast<Position>(pending.size()); }
};

prune::AnyPolicy policy_of(const Config& config, const SessionOptions& options) {
  if (options.policy) return *options.policy;
  return config.gate ? prune::AnyPolicy(prune::learned_gate()) : prune::none();
}

/// What the policy needs, and what a record of its drops wants to know beside it.
prune::Needs needs_of(const Config& config, const prune::AnyPolicy& policy, const SessionOptions& options) {
  prune::Needs needs = policy.needs();
  // Heads with gates of their own forget differently.
  if (needs.gate && config.gate_per_head()) needs.lane_per_head = true;
  if (needs.gate && (options.record_drops || options.on_drop)) needs.evidence = needs.evidence | column::gate_logit;
  return needs;
}

void check_shape(const prune::MadeFor& file, const Config& config) {
  const auto text = [&](std::size_t layers, std::size_t kv_heads, std::size_t d_model) {
    return std::to_string(layers) + " layers of " + std::to_string(kv_heads) + " kv-heads" +
           (file.d_model != 0 ? " and width " + std::to_string(d_model) : "");
  };
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  const std::string expected = text(size(config.n_layers()), size(config.n_kv_heads), size(config.d_model));
  const std::string found = text(file.layers, file.kv_heads, file.d_model);
  if (found != expected)
    fail(ErrorCode::model, file.file.empty() ? "policy" : file.file, "a file for the model's " + expected,
         "one for " + found);
}

KvLayouts layouts_of(const Config& config, const SessionOptions& options, const prune::Needs& needs) {
  if (needs.gate && !config.gate)
    fail(ErrorCode::unsupported, "policy", "a model with learned gates (its own, or a sidecar's)", "none");
  const auto check = [](std::size_t asked, int there, const std::string& what) {
    if (asked > static_cast<std::size_t>(there))
      fail(ErrorCode::argument, "policy", what + "s below the model's " + std::to_string(there),
           what + " " + std::to_string(asked - 1));
  };
  for (const prune::MadeFor& file : needs.made_for) check_shape(file, config);
  check(needs.layers, config.n_layers(), "layer");
  check(needs.kv_heads, config.n_kv_heads, "kv-head");
  if (needs.after_pass && std::ranges::none_of(config.layers, [](const LayerPlan& plan) { return plan.window == 0; }))
    fail(ErrorCode::unsupported, "policy that judges layers together", "a layer without a sliding window of its own",
         "none");
  if (config.head_dim % block_values(options.kv) != 0)
    fail(ErrorCode::unsupported, "cache format " + name(options.kv),
         "a head_dim that is a multiple of " + std::to_string(block_values(options.kv)),
         std::to_string(config.head_dim));
  if (const auto block = static_cast<std::size_t>(block_values(options.kv.keys));
      static_cast<std::size_t>(config.head_dim) / block < needs.key_blocks)
    fail(ErrorCode::unsupported, "policy",
         "keys of at least " + std::to_string(needs.key_blocks * block) + " numbers in a cache of " +
             std::string(name(options.kv.keys)) + ", of which some can be left out",
         "head_dim " + std::to_string(config.head_dim));
  const GateKeys gate_keys = options.gate_keys.value_or(options.kv == KvFormat::f32 ? GateKeys::f32 : GateKeys::f16);
  PageLayout::Shape gate{.heads = 0,
                         .gate_dim = needs.gate ? static_cast<std::size_t>(config.gate->dim) : 0,
                         .gate_keys = gate_keys == GateKeys::f32 ? KvFormat::f32 : KvFormat::f16,
                         .evidence = column::holders};
  const bool apart = needs.gate && needs.lane_per_head && !config.gate_per_head();
  return {PageLayout({.keys = options.kv.keys,
                      .values = options.kv.values,
                      .heads = needs.lane_per_head ? 1 : static_cast<std::size_t>(config.n_kv_heads),
                      .head_dim = static_cast<std::size_t>(config.head_dim),
                      .gate_dim = apart ? 0 : gate.gate_dim,
                      .gate_keys = gate.gate_keys,
                      .evidence = needs.evidence}),
          apart ? std::optional<PageLayout>(gate) : std::nullopt};
}

std::vector<std::size_t> kv_owners(const Config& config) {
  std::vector<std::size_t> owners;
  for (std::size_t layer = 0; layer < config.layers.size(); ++layer) owners.push_back(config.kv_owner(layer));
  return owners;
}

std::size_t context_of(const Config& config, const SessionOptions& options) {
  if (options.chunk < 1) fail(ErrorCode::argument, "chunk", "at least 1", std::to_string(options.chunk));
  if (options.context < 0) fail(ErrorCode::argument, "context", "at least 0", std::to_string(options.context));
  // Learned positions end where the table does; rotary ones go on.
  if (config.learned_positions && options.context > config.context)
    fail(ErrorCode::argument, "context", "at most the model's " + std::to_string(config.context) + " positions",
         std::to_string(options.context));
  return static_cast<std::size_t>(options.context > 0 ? options.context : config.context);
}

/// A call of one of the caller's functions that is due.
struct Report {
  enum class Kind { drop, pass, prefill } kind;
  SequenceId sequence;
  Drop drop;
  Segment segment;
};

}  // namespace

struct Session::Impl {
  Impl(Model m, SessionOptions o)
      : model(std::move(m)),
        options(std::move(o)),
        config(model.config()),
        policy(policy_of(config, options)),
        needs(needs_of(config, policy, options)),
        context(context_of(config, options)),
        layouts(layouts_of(config, options, needs)),
        pool(options.kv_budget),
        threads(options.threads.value_or(Threads(0))),
        workspace(config, needs, context) {}

  Sequence& find(SequenceId id) { return const_cast<Sequence&>(std::as_const(*this).find(id)); }
  const Sequence& find(SequenceId id) const {
    const auto found = sequences.find(id);
    if (found != sequences.end()) return found->second;
    const auto number = static_cast<std::uint32_t>(id);
    const bool was = number < next_id;
    fail(was ? ErrorCode::state : ErrorCode::argument, "sequence", "one that was added and not finished",
         std::to_string(number) + (was ? ", which is finished" : ", which never was"));
  }

  /// The sequence, which no cancelled step has left halfway.
  Sequence& between_steps(SequenceId id, const char* what) {
    Sequence& sequence = find(id);
    for (const Segment& segment : pass.segments)
      if (segment.cache == &sequence.cache)
        fail(ErrorCode::state, what, "a sequence between two steps", "one whose step was cancelled halfway");
    return sequence;
  }

  static void check_positions(std::span<const Position> positions, Position end, const char* what, const char* whose) {
    for (const Position position : positions)
      if (position < 0 || position >= end)
        fail(ErrorCode::argument, what, "a position below " + std::string(whose) + " of " + std::to_string(end),
             std::to_string(position));
  }

  std::size_t lanes_per_layer() const { return needs.lane_per_head ? static_cast<std::size_t>(config.n_kv_heads) : 1; }

  Sequence make_sequence() {
    constexpr std::size_t most_expected_rows = 8192;
    return {KvCache(layouts, pool, kv_owners(config), lanes_per_layer(), std::min(context, most_expected_rows),
                    options.record_drops || options.on_drop ? DropLog::Keep::history : DropLog::Keep::counts)};
  }

  SequenceId insert(Sequence&& sequence) {
    const SequenceId id{next_id++};
    sequences.emplace(id, std::move(sequence));
    return id;
  }

  void append(Sequence& sequence, std::span<const Token> tokens, Stretch::Kind kind, Logits wanted) {
    if (tokens.empty()) fail(ErrorCode::argument, "tokens", "at least one", "none");
    if (const std::size_t total = static_cast<std::size_t>(sequence.total()) + tokens.size(); total > context)
      fail(ErrorCode::argument, "sequence", "at most the context's " + std::to_string(context) + " tokens",
           std::to_string(total));
    for (const Token token : tokens)
      if (token < 0 || token >= config.vocab_size)
        fail(ErrorCode::argument, "token", "an id from 0 to " + std::to_string(config.vocab_size - 1),
             std::to_string(token));
    const Position begin = sequence.total();
    sequence.pending.insert(sequence.pending.end(), tokens.begin(), tokens.end());
    sequence.stretches.push_back({kind, begin, sequence.total(), wanted});
  }

  /// How many tokens of a sequence the next pass takes: as many as if it were alone, so that its chunks do not depend
  /// on the others. 0: not one would fit.
  std::size_t next_chunk(const Sequence& sequence) const {
    Position end = sequence.stretches.front().end;
    for (const Compression& one : sequence.compressions) end = std::min(end, one.end);
    const auto left = static_cast<std::size_t>(end - sequence.length);
    std::size_t count = std::min(left, static_cast<std::size_t>(options.chunk));
    if (options.kv_budget == 0) return count;
    const std::size_t free_alone = options.kv_budget - std::min(options.kv_budget, sequence.cache.bytes());
    while (count > 0 && sequence.cache.bytes_for(count) > free_alone) count /= 2;
    return count;
  }

  /// Chooses the next pass: every sequence that decodes, then prompts, at most `chunk` of their tokens together. Those
  /// that the budget has no pages for wait.
  void plan() {
    std::size_t bytes = pool.available();
    std::size_t room = static_cast<std::size_t>(options.chunk);
    waiting = 0;
    for (const Stretch::Kind kind : {Stretch::Kind::decoded, Stretch::Kind::prompt}) {
      for (auto& [id, sequence] : sequences) {
        if (sequence.pending.empty() || sequence.stretches.front().kind != kind) continue;
        const std::size_t count = next_chunk(sequence), needed = sequence.cache.bytes_for(count);
        if (count == 0 || needed > bytes) {
          ++waiting;
          continue;
        }
        if (kind == Stretch::Kind::prompt) {
          if (count > room) continue;
          room -= count;
        }
        if (bytes != SIZE_MAX) bytes -= needed;
        add_segment(id, sequence, count);
      }
    }
    if (pass.empty())
      fail(ErrorCode::budget, "key-value cache",
           "pages for one more token within " + std::to_string(options.kv_budget) + " bytes",
           std::to_string(pool.bytes_used()) + " bytes in use");
  }

  void add_segment(SequenceId id, Sequence& sequence, std::size_t count) {
    if (const Stretch& stretch = sequence.stretches.front(); stretch.kind == Stretch::Kind::prompt) {
      sequence.prompt_begin = stretch.begin;
      sequence.prompt_end = stretch.end;
    }
    pass.segments.push_back({.cache = &sequence.cache,
                             .scratch = &sequence.scratch,
                             .row = pass.tokens.size(),
                             .count = count,
                             .first = sequence.length,
                             .prompt_begin = sequence.prompt_begin,
                             .prompt_end = sequence.prompt_end,
                             .tau = sequence.tau});
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

  void seek_focus() {
    const std::size_t each = config.layers.size() * static_cast<std::size_t>(config.n_heads);
    focus.assign(pass.segments.size() * each, 0);
    for (std::size_t s = 0; s < pass.segments.size(); ++s)
      pass.segments[s].focus = std::span(focus).subspan(s * each, each);
  }

  SequenceId fork(SequenceId sequence) {
    const Sequence& from = between_steps(sequence, "fork");
    if (from.cache.bytes() > pool.available())
      fail(ErrorCode::budget, "key-value cache", "pages for a copy of the sequence within the budget",
           std::to_string(pool.available()) + " bytes left of " + std::to_string(from.cache.bytes()) + " needed");
    Sequence copy = make_sequence();
    copy.cache.copy_from(from.cache);
    copy.pending = from.pending;
    copy.stretches = from.stretches;
    copy.length = from.length;
    copy.prompt_begin = from.prompt_begin;
    copy.prompt_end = from.prompt_end;
    copy.tau = from.tau;
    copy.compressions = from.compressions;
    return insert(std::move(copy));
  }

  /// Feeds a copy of a sequence, which is then forgotten, under another policy.
  void replay(SequenceId id, std::span<const Token> tokens, const prune::AnyPolicy& by) {
    const SequenceId copy = fork(id);
    struct Forget {
      Impl& impl;
      SequenceId copy;
      ~Forget() { impl.sequences.erase(copy); }
    } forget{*this, copy};
    Sequence& sequence = find(copy);
    sequence.compressions.clear();
    append(sequence, tokens, Stretch::Kind::prompt, Logits::none);
    Workspace own(config, needs, context);  // that of the session may be in the middle of a step
    const auto read_chunk = [&] {
      const std::size_t count = next_chunk(sequence);
      if (count == 0 || sequence.cache.bytes_for(count) > pool.available())
        fail(ErrorCode::budget, "key-value cache", "pages to write a context again",
             std::to_string(pool.available()) + " bytes left");
      Pass part;
      part.segments.push_back({.cache = &sequence.cache,
                               .scratch = &sequence.scratch,
                               .count = count,
                               .first = sequence.length,
                               .prompt_begin = sequence.stretches.front().begin,
                               .prompt_end = sequence.stretches.front().end});
      for (std::size_t i = 0; i < count; ++i) {
        part.tokens.push_back(sequence.pending[i]);
        part.positions.push_back(sequence.length + static_cast<Position>(i));
      }
      forward(config, model.weights(), by, part, own, threads, {});
      sequence.pending.erase(sequence.pending.begin(), sequence.pending.begin() + static_cast<std::ptrdiff_t>(count));
      sequence.length += static_cast<Position>(count);
    };
    try {
      threads.gather([&] {
        while (!sequence.pending.empty()) read_chunk();
      });
    } catch (const SegmentError& error) {
      throw SequenceError(error.code(), error.what(), id);
    }
  }

  static void compress(Sequence& sequence, const Compression& one) {
    std::vector<Position> others;
    for (Position position = one.begin; position < one.end; ++position)
      if (!std::ranges::binary_search(one.pins, position)) others.push_back(position);
    for (std::size_t layer = 0; layer < sequence.cache.layers(); ++layer)
      sequence.cache.forget(layer, others, sequence.length);
  }

  /// One forward pass, or what is left of it.
  void advance(const std::stop_token& stop) {
    if (pass.empty()) {
      plan();
      if (options.record_focus) seek_focus();
    }
    try {
      if (!forward(config, model.weights(), policy, pass, workspace, threads, stop))
        fail(ErrorCode::cancelled, "step: stopped before layer " + std::to_string(pass.layer));
    } catch (const SegmentError& error) {
      throw SequenceError(error.code(), error.what(), owners[error.segment()]);
    }
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
      std::erase_if(sequence.compressions, [&](const Compression& one) {
        return one.end <= sequence.length && (compress(sequence, one), true);
      });
      const std::size_t end = segment.row + segment.count;
      const Stretch stretch = sequence.stretches.front();
      if (sequence.length == stretch.end) sequence.stretches.erase(sequence.stretches.begin());
      if (stretch.logits == Logits::all)
        for (std::size_t t = segment.row; t < end; ++t) output_rows.push_back({owners[s], t});
      else if (stretch.logits == Logits::last && sequence.length == stretch.end)
        output_rows.push_back({owners[s], end - 1});
    }
    compute_logits();
    for (std::size_t s = 0; s < pass.segments.size(); ++s) {
      const Segment& segment = pass.segments[s];
      if (segment.cache == nullptr) continue;
      segment.cache->log().take_fresh([&](const Drop& drop) {
        if (options.on_drop) reports.push_back({Report::Kind::drop, owners[s], drop, {}});
      });
    }
    for (std::size_t s = 0; s < pass.segments.size(); ++s) {
      const Segment& segment = pass.segments[s];
      if (segment.cache == nullptr) continue;
      if (options.on_pass) reports.push_back({Report::Kind::pass, owners[s], {}, segment});
      if (options.on_prefill && segment.first < segment.prompt_end)
        reports.push_back({Report::Kind::prefill, owners[s], {}, segment});
    }
    if (options.on_pass) reported_tokens = pass.tokens;
    pass.clear();
    owners.clear();
    report();
  }

  /// Calls the caller's functions, each once, whichever throws.
  void report() {
    while (next_report < reports.size()) tell(reports[next_report++]);
    reports.clear();
    next_report = 0;
  }

  void tell(const Report& report) {
    const Segment& segment = report.segment;
    switch (report.kind) {
      case Report::Kind::drop:
        return options.on_drop(report.sequence, report.drop);
      case Report::Kind::pass:
        live_rows.clear();
        for (std::size_t l = 0; l < segment.cache->layers(); ++l) live_rows.push_back(segment.cache->rows(l));
        return options.on_pass({report.sequence, segment.first,
                                std::span(reported_tokens).subspan(segment.row, segment.count), segment.cache->bytes(),
                                live_rows, segment.focus});
      case Report::Kind::prefill:
        return options.on_prefill({report.sequence, static_cast<std::size_t>(segment.next() - segment.prompt_begin),
                                   static_cast<std::size_t>(segment.prompt_end - segment.prompt_begin)});
    }
  }

  bool busy() const {
    return std::ranges::any_of(sequences, [](const auto& entry) { return !entry.second.pending.empty(); });
  }

  /// Passes until one gave logits, or one alone; first of all what a callback that threw has left.
  std::span<const Output> run(const std::stop_token& stop, bool one_pass) {
    if (outputs_given) outputs.clear();
    outputs_given = false;
    report();
    const auto work = [&] {
      while (outputs.empty() && busy()) {
        advance(stop);
        if (one_pass) break;
      }
    };
    worth_gathering() ? threads.gather(work) : work();
    outputs_given = true;
    return outputs;
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
    for (const Sequence* sequence : some) {
      const auto length = static_cast<std::size_t>(sequence->length);
      stats.bytes_used += sequence->cache.bytes();
      stats.bytes_dense += sequence->cache.bytes_of(length);
      stats.bytes_state += sequence->cache.state_bytes();
      for (std::size_t l = 0; l < stats.live_rows.size(); ++l) stats.live_rows[l] += sequence->cache.rows(l);
      stats.seen_rows += sequence->cache.all_lanes() * length;
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
  std::size_t waiting = 0;                                      // sequences the pass has no pages for
  std::vector<Report> reports;                                  // of the latest pass
  std::size_t next_report = 0;
  std::vector<Token> reported_tokens;  // [rows of that pass]
  std::vector<std::size_t> live_rows;
  std::vector<Position> focus;  // [segment * layer * head] of the pass
  Activations final;            // [outputs, d_model]
  Tensor<float> logits;         // [outputs, vocab_size]
  std::vector<Output> outputs;
  bool outputs_given = true;
};

Session::Session(Model model, SessionOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), std::move(options))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

SequenceId Session::add(std::span<const Token> prompt, Logits logits) {
  Sequence sequence = impl_->make_sequence();
  impl_->append(sequence, prompt, Stretch::Kind::prompt, logits);
  return impl_->insert(std::move(sequence));
}

void Session::prompt(SequenceId sequence, std::span<const Token> tokens, Logits logits) {
  impl_->append(impl_->find(sequence), tokens, Stretch::Kind::prompt, logits);
}

void Session::push(SequenceId sequence, Token token, Logits logits) {
  Sequence& s = impl_->find(sequence);
  if (!s.pending.empty())
    fail(ErrorCode::state, "push", "a sequence whose tokens have all been fed",
         std::to_string(s.pending.size()) + " pending");
  impl_->append(s, std::span(&token, 1), Stretch::Kind::decoded, logits);
}

std::span<const Output> Session::step(std::stop_token stop) { return impl_->run(stop, false); }

std::span<const Output> Session::pass(std::stop_token stop) { return impl_->run(stop, true); }

bool Session::idle() const {
  const Impl& s = *impl_;
  return !s.busy() && s.next_report == s.reports.size() && (s.outputs_given || s.outputs.empty());
}

std::size_t Session::waiting() const { return impl_->waiting; }

void Session::finish(SequenceId sequence) {
  Impl& s = *impl_;
  const Sequence& found = s.find(sequence);
  for (Segment& segment : s.pass.segments)
    if (segment.cache == &found.cache) segment.cache = nullptr;
  // What a callback that threw has left of it. Logits that were given stay: the caller may be walking through them.
  const auto told = s.reports.begin() + static_cast<std::ptrdiff_t>(s.next_report);
  s.reports.erase(std::remove_if(told, s.reports.end(), [&](const Report& r) { return r.sequence == sequence; }),
                  s.reports.end());
  if (!s.outputs_given) std::erase_if(s.outputs, [&](const Output& o) { return o.sequence == sequence; });
  s.sequences.erase(sequence);
}

SequenceId Session::fork(SequenceId sequence) { return impl_->fork(sequence); }

void Session::set_tau(SequenceId sequence, float tau) {
  Sequence& s = impl_->between_steps(sequence, "tau");
  require(!std::isnan(tau), ErrorCode::argument, "tau: expected a number, found NaN");
  require(impl_->needs.gate, ErrorCode::unsupported, "tau: expected a policy with the learned gate, found none");
  s.tau = tau;
}

void Session::keep(SequenceId sequence, std::span<const Position> positions) {
  Sequence& s = impl_->between_steps(sequence, "keep");
  Impl::check_positions(positions, static_cast<Position>(impl_->context), "keep", "the context");
  std::vector<Position> there, ahead;
  for (const Position position : positions) (position < s.length ? there : ahead).push_back(position);
  for (std::size_t layer = 0; layer < s.cache.layers(); ++layer)
    s.cache.keep(layer, there, impl_->config.layers[layer].window);
  s.cache.keep_ahead(ahead);
}

void Session::forget(SequenceId sequence, std::size_t layer, std::span<const Position> positions) {
  Sequence& s = impl_->between_steps(sequence, "forget");
  Impl::check_positions(positions, s.length, "forget", "the sequence's length");
  if (layer >= s.cache.layers())
    fail(ErrorCode::argument, "forget", "a layer below " + std::to_string(s.cache.layers()), std::to_string(layer));
  s.cache.forget(layer, positions, s.length);
}

void Session::compress(SequenceId sequence, Position begin, Position end, std::span<const Position> pins) {
  Sequence& s = impl_->between_steps(sequence, "compress");
  if (begin < 0 || begin > end || end > static_cast<Position>(impl_->context))
    fail(ErrorCode::argument, "compress",
         "a first token and an end behind it, up to the context of " + std::to_string(impl_->context),
         "[" + std::to_string(begin) + ", " + std::to_string(end) + ")");
  for (const Position pin : pins)
    if (pin < begin || pin >= end)
      fail(ErrorCode::argument, "compress", "pins from " + std::to_string(begin) + " to " + std::to_string(end - 1),
           std::to_string(pin));
  Compression one{begin, end, {pins.begin(), pins.end()}};
  std::ranges::sort(one.pins);
  keep(sequence, one.pins);
  if (end <= s.length)
    Impl::compress(s, one);
  else
    s.compressions.push_back(std::move(one));
}

void Session::compress(SequenceId id, std::span<const Token> tokens, const Replay& how) {
  Impl& s = *impl_;
  Sequence& sequence = s.between_steps(id, "compress");
  const auto number = [](const char* what, float value, float least, const char* range) {
    if (!(value >= least)) fail(ErrorCode::argument, std::string("compress: ") + what, range, std::to_string(value));
  };
  number("share", how.share <= 1 ? how.share : -1, 0, "a number from 0 to 1");
  number("sinks", static_cast<float>(how.sinks), 0, "at least 0");
  number("chunk", static_cast<float>(how.chunk), 1, "at least 1");
  number("overlap", static_cast<float>(how.overlap), 0, "at least 0");
  if (!sequence.pending.empty())
    fail(ErrorCode::state, "compress", "a sequence whose tokens have all been fed",
         std::to_string(sequence.pending.size()) + " pending");
  if (static_cast<Position>(tokens.size()) != sequence.length)
    fail(ErrorCode::argument, "compress: tokens", "the sequence's " + std::to_string(sequence.length),
         std::to_string(tokens.size()));

  prune::ReplayWorth worth(sequence.cache.layers(), sequence.cache.lanes_per_layer(), tokens.size());
  const auto chunk = static_cast<std::size_t>(how.chunk);
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const std::size_t end = std::min(begin + chunk, tokens.size());
    std::vector<Token> replay = begin == 0 ? how.all : how.part;
    const auto add = [&](std::span<const Token> more) { replay.insert(replay.end(), more.begin(), more.end()); };
    if (begin > 0) {
      const std::size_t overlap = std::min(begin, static_cast<std::size_t>(how.overlap));
      add(tokens.subspan(begin - overlap, overlap));
    }
    add(how.answer);
    add(tokens.subspan(begin, end - begin));
    s.replay(id, replay,
             prune::ObserveReplay{.sinks = how.sinks,
                                  .begin = static_cast<Position>(begin),
                                  .end = static_cast<Position>(end),
                                  .replay = sequence.length,
                                  .worth = &worth});
  }
  std::vector<bool> judged;
  for (const LayerPlan& plan : s.config.layers) judged.push_back(plan.window == 0);
  worth.evict(sequence.cache, judged, how.share, how.sinks, sequence.length);
}

std::size_t Session::context() const { return impl_->context; }

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
        if (const Position until = log.until(s.cache.owner(layer), lane, j); until < s.length)
          all[layer][lane][static_cast<std::size_t>(j)] = until;
  return all;
}

std::size_t Session::trim() { return impl_->pool.trim(); }
const Model& Session::model() const { return impl_->model; }
const prune::AnyPolicy& Session::policy() const { return impl_->policy; }

}  // namespace pith
