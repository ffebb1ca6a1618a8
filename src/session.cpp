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
#include "sequence.hpp"

namespace pith {

namespace {

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

bool shares_lanes(const Config& config) {
  return std::ranges::any_of(config.layers, [](const LayerPlan& plan) { return plan.kv_from >= 0; });
}

/// The layers that a prompt goes through together, before others: where tokens leave it, a stage ends.
std::vector<Stage> stages_of(const Config& config, const prune::AnyPolicy& policy, const prune::Needs& needs) {
  std::vector<Stage> stages = {{.begin = 0}};
  const std::size_t n = config.layers.size();
  for (std::size_t layer = 0; layer + 1 < n; ++layer) {
    if (!policy.narrows_after(layer, n)) continue;
    stages.back().end = layer + 1;
    stages.push_back({.begin = layer + 1});
  }
  stages.back().end = n;
  if (stages.size() > 1 && needs.gate)
    fail(ErrorCode::unsupported, "policy", "no learned gate beside a method by which tokens leave between layers",
         policy.describe());
  if (stages.size() > 1 && shares_lanes(config))
    fail(
        ErrorCode::unsupported, "policy",
        "a model whose layers all have keys and values of their own, for a method by which tokens leave between layers",
        policy.describe());
  return stages;
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
  Drop drop = {};
  Segment segment = {};
  Progress progress = {};
};

}  // namespace

struct Session::Impl {
  Impl(Model m, SessionOptions o)
      : model(std::move(m)),
        options(std::move(o)),
        config(model.config()),
        policy(policy_of(config, options)),
        needs(needs_of(config, policy, options)),
        stages(stages_of(config, policy, needs)),
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

  /// The sequence between two steps, which cannot go back.
  Sequence& committed(SequenceId id, const char* what) {
    Sequence& sequence = between_steps(id, what);
    require(!sequence.mark, ErrorCode::state,
            std::string(what) + ": expected a sequence without a mark, found one with");
    return sequence;
  }

  /// The sequence, which has no drafted tokens that are neither verified nor taken back.
  Sequence& can_be_fed(SequenceId id, const char* what) {
    Sequence& sequence = find(id);
    const bool drafting = sequence.stretches.empty() ? sequence.halted.layer > 0
                                                     : sequence.stretches.front().kind == Stretch::Kind::drafted;
    if (drafting)
      fail(ErrorCode::state, what, "a sequence whose drafted tokens were verified or taken back", "some that were not");
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

  void check_room(const Sequence& sequence, std::size_t tokens) const {
    if (tokens == 0) fail(ErrorCode::argument, "tokens", "at least one", "none");
    if (const std::size_t total = static_cast<std::size_t>(sequence.total()) + tokens; total > context)
      fail(ErrorCode::argument, "sequence", "at most the context's " + std::to_string(context) + " tokens",
           std::to_string(total));
  }

  void append(Sequence& sequence, std::span<const Token> tokens, Stretch stretch) {
    check_room(sequence, tokens.size());
    for (const Token token : tokens)
      if (token < 0 || token >= config.vocab_size)
        fail(ErrorCode::argument, "token", "an id from 0 to " + std::to_string(config.vocab_size - 1),
             std::to_string(token));
    add_stretch(sequence, tokens, std::move(stretch));
  }

  void append(Sequence& sequence, View<const float> embeddings, Stretch stretch) {
    check_room(sequence, embeddings.rows);
    if (embeddings.cols != static_cast<std::size_t>(config.d_model))
      fail(ErrorCode::argument, "embeddings", "rows of the model's " + std::to_string(config.d_model) + " numbers",
           "of " + std::to_string(embeddings.cols));
    for (std::size_t i = 0; i < embeddings.rows; ++i) {
      const auto row = embeddings[i];
      if (const auto bad = std::ranges::find_if(row, [](float x) { return !std::isfinite(x); }); bad != row.end())
        fail(ErrorCode::argument, "embeddings", "finite numbers",
             std::to_string(*bad) + " in row " + std::to_string(i));
      stretch.embeddings.insert(stretch.embeddings.end(), row.begin(), row.end());
    }
    add_stretch(sequence, std::vector<Token>(embeddings.rows, no_token), std::move(stretch));
  }

  static void add_stretch(Sequence& sequence, std::span<const Token> tokens, Stretch stretch) {
    stretch.begin = sequence.total();
    sequence.pending.insert(sequence.pending.end(), tokens.begin(), tokens.end());
    stretch.end = sequence.total();
    sequence.stretches.push_back(std::move(stretch));
  }

  /// The sequence, all of which has gone through all layers.
  Sequence& at_rest(SequenceId id, const char* what) {
    Sequence& sequence = find(id);
    if (!sequence.stretches.empty())
      fail(ErrorCode::state, what, "a sequence whose tokens have all been fed",
           std::to_string(std::max<std::size_t>(sequence.pending.size(), sequence.halted.left())) + " pending");
    if (sequence.halted.layer > 0)
      fail(ErrorCode::state, what, "a sequence whose drafted tokens were verified or taken back",
           std::to_string(sequence.halted.left()) + " that were not");
    return sequence;
  }

  /// The layers that the sequence's next tokens go through: a stage of its own, or all.
  Stage next_stage(const Sequence& sequence) const {
    const Stretch& next = sequence.stretches.front();
    const Stage all{.begin = 0, .end = config.layers.size()};
    if (next.kind == Stretch::Kind::drafted) return {.begin = 0, .end = next.exit};
    if (next.kind == Stretch::Kind::decoded)
      return sequence.halted.layer > 0 ? Stage{.begin = sequence.halted.layer, .end = all.end} : all;
    if (next.logits == Logits::all) return all;  // of a token that left there would be none
    return *std::ranges::find(stages, sequence.fed < next.end ? 0 : sequence.halted.layer, &Stage::begin);
  }

  /// How many tokens of a sequence the next pass takes: as many as if it were alone, so that its chunks do not depend
  /// on the others. 0: not one would fit.
  std::size_t next_chunk(const Sequence& sequence) const {
    Position end = sequence.stretches.front().end;
    for (const Compression& one : sequence.compressions)
      if (one.end > sequence.fed) end = std::min(end, one.end);
    const std::size_t left = sequence.fed < end ? static_cast<std::size_t>(end - sequence.fed) : sequence.halted.left();
    // What judges all layers, or some that share lanes, together acts once a pass: tokens that act one by one have a
    // pass each.
    const bool each =
        (needs.after_pass || shares_lanes(config)) && sequence.stretches.front().kind == Stretch::Kind::decoded;
    std::size_t count = each ? 1 : std::min(left, static_cast<std::size_t>(options.chunk));
    if (options.kv_budget == 0) return count;
    const std::size_t free_alone = options.kv_budget - std::min(options.kv_budget, sequence.cache.bytes());
    while (count > 0 && sequence.cache.bytes_for(count) > free_alone) count /= 2;
    return count;
  }

  /// The stage of its own that the next pass has room for: those who want one take turns.
  std::optional<Stage> stage_in_turn() {
    const auto wants = [&](const auto& entry) {
      return !entry.second.stretches.empty() && !whole(next_stage(entry.second));
    };
    auto found = std::find_if(sequences.upper_bound(last_staged), sequences.end(), wants);
    if (found == sequences.end()) found = std::ranges::find_if(sequences, wants);
    if (found == sequences.end()) return {};
    last_staged = found->first;
    return next_stage(found->second);
  }

  bool whole(const Stage& stage) const { return stage.begin == 0 && stage.end == config.layers.size(); }

  /// Chooses the next pass: every sequence that decodes, then prompts, at most `chunk` of their tokens together.
  /// Those that the budget has no pages for wait. Rows that go through some layers alone come last.
  void plan() {
    std::size_t bytes = pool.available();
    std::size_t room = static_cast<std::size_t>(options.chunk);
    const std::optional<Stage> stage = stage_in_turn();
    std::vector<std::pair<SequenceId, std::size_t>> staged;  // and how many tokens
    waiting = 0;
    for (const bool prompts : {false, true}) {
      for (auto& [id, sequence] : sequences) {
        if (sequence.stretches.empty() || (sequence.stretches.front().kind == Stretch::Kind::prompt) != prompts)
          continue;
        const Stage own = next_stage(sequence);
        if (!whole(own) && (own.begin != stage->begin || own.end != stage->end)) continue;
        const std::size_t count = next_chunk(sequence), needed = sequence.cache.bytes_for(count);
        if (count == 0 || needed > bytes) {
          ++waiting;
          continue;
        }
        if (prompts) {
          if (count > room) continue;
          room -= count;
        }
        if (bytes != SIZE_MAX) bytes -= needed;
        if (whole(own))
          add_segment(id, sequence, count);
        else
          staged.emplace_back(id, count);
      }
    }
    if (!staged.empty()) pass.stage = {pass.positions.size(), stage->begin, stage->end};
    for (const auto& [id, count] : staged) add_segment(id, find(id), count);
    if (pass.empty())
      fail(ErrorCode::budget, "key-value cache",
           "pages for one more token within " + std::to_string(options.kv_budget) + " bytes",
           std::to_string(pool.bytes_used()) + " bytes in use");
  }

  void add_segment(SequenceId id, Sequence& sequence, std::size_t count) {
    const Stretch& stretch = sequence.stretches.front();
    const bool prompt = stretch.kind == Stretch::Kind::prompt, goes_on = sequence.fed == stretch.end;
    if (prompt && (sequence.prompts.empty() || sequence.prompts.back().begin != stretch.begin))
      sequence.prompts.push_back({stretch.begin, stretch.end});
    Segment segment{.cache = &sequence.cache,
                    .scratch = &sequence.scratch,
                    .row = pass.positions.size(),
                    .count = count,
                    .first = sequence.fed,
                    .prompt_begin = sequence.prompt().begin,
                    .prompt_end = sequence.prompt().end,
                    .tau = sequence.tau,
                    .pace = prompt ? Pace::together : Pace::one_by_one};
    const std::size_t d = static_cast<std::size_t>(config.d_model);
    Halted& halted = sequence.halted;
    for (std::size_t i = 0; i < count; ++i) {
      pass.tokens.push_back(goes_on ? no_token : sequence.pending[i]);
      pass.positions.push_back(goes_on ? halted.positions[halted.done + i] : sequence.fed + static_cast<Position>(i));
    }
    if (goes_on) {
      segment.first = halted.positions[halted.done];
      segment.absent = pass.positions.back() + 1 - segment.first - static_cast<Position>(count);
      segment.stream = halted.rows_from(halted.done, count, d);
    } else if (!stretch.embeddings.empty()) {
      const auto from = static_cast<std::size_t>(sequence.fed - stretch.begin);
      segment.embeddings = {stretch.embeddings.data() + from * d, count, d};
    }
    const bool staged = segment.row >= pass.stage.row;
    if (prompt && staged && pass.stage.end < config.layers.size() && segment.next() == stretch.end) {
      sequence.stay.assign(halted.positions.begin(), halted.positions.end());
      if (!goes_on)
        sequence.stay.insert(sequence.stay.end(), pass.positions.end() - static_cast<std::ptrdiff_t>(count),
                             pass.positions.end());
      segment.stay = &sequence.stay;
    }
    pass.segments.push_back(segment);
    owners.push_back(id);
  }

  /// Gathering threads costs some tens of microseconds; a small model's token takes less.
  bool worth_gathering() const {
    constexpr std::uint64_t least_work = std::uint64_t{1} << 21;  // multiply-adds
    std::uint64_t tokens = pass.tokens.size();
    for (const auto& [id, sequence] : sequences) tokens += sequence.pending.size() + sequence.halted.left();
    return tokens * (parameters + pool.bytes_used() / sizeof(float)) >= least_work;
  }

  void seek_focus() {
    const std::size_t each = config.layers.size() * static_cast<std::size_t>(config.n_heads);
    focus.assign(pass.segments.size() * each, 0);
    for (std::size_t s = 0; s < pass.segments.size(); ++s)
      pass.segments[s].focus = std::span(focus).subspan(s * each, each);
  }

  SequenceId fork(SequenceId sequence) {
    const Sequence& from = committed(sequence, "fork");
    if (from.cache.bytes() > pool.available())
      fail(ErrorCode::budget, "key-value cache", "pages for a copy of the sequence within the budget",
           std::to_string(pool.available()) + " bytes left of " + std::to_string(from.cache.bytes()) + " needed");
    Sequence copy = make_sequence();
    copy.cache.copy_from(from.cache);
    copy.pending = from.pending;
    copy.stretches = from.stretches;
    copy.fed = from.fed;
    copy.length = from.length;
    copy.halted = from.halted;
    copy.prompts = from.prompts;
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
    append(sequence, tokens, {.kind = Stretch::Kind::prompt, .logits = Logits::none});
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
      sequence.fed = sequence.length += static_cast<Position>(count);
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
    for (std::size_t s = 0; s < pass.segments.size(); ++s)
      if (pass.segments[s].cache != nullptr) advance(owners[s], pass.segments[s]);
    compute_logits();
    for (std::size_t s = 0; s < pass.segments.size(); ++s)
      if (pass.segments[s].cache != nullptr && !find(owners[s]).mark) report_drops(owners[s]);
    for (std::size_t s = 0; s < pass.segments.size(); ++s) {
      const Segment& segment = pass.segments[s];
      if (segment.cache == nullptr) continue;
      if (options.on_pass) reports.push_back({Report::Kind::pass, owners[s], {}, segment});
      if (options.on_prefill && segment.first < segment.prompt_end)
        reports.push_back({Report::Kind::prefill, owners[s], {}, {}, progress(owners[s], segment)});
    }
    if (options.on_pass) reported_tokens = pass.tokens;
    pass.clear();
    owners.clear();
    report();
  }

  /// The sequence is as far as a segment of the finished pass has brought it.
  void advance(SequenceId id, const Segment& segment) {
    Sequence& sequence = find(id);
    Stretch& stretch = sequence.stretches.front();
    Halted& halted = sequence.halted;
    const bool staged = segment.row >= pass.stage.row, goes_on = segment.stream.rows > 0;
    const bool last = !staged || pass.stage.end == config.layers.size();
    const auto count = static_cast<std::ptrdiff_t>(segment.count);
    if (!goes_on) {
      sequence.pending.erase(sequence.pending.begin(), sequence.pending.begin() + count);
      sequence.fed = segment.next();
    }
    if (!last) halt(halted, segment, goes_on);
    if (goes_on) halted.done += segment.count;
    const bool done = sequence.fed == stretch.end && (!goes_on || halted.left() == 0);
    const bool drafted = stretch.kind == Stretch::Kind::drafted;
    const Logits wanted = last || drafted ? stretch.logits : Logits::none;
    const std::size_t end = segment.row + segment.count;
    if (wanted == Logits::all)
      for (std::size_t t = segment.row; t < end; ++t) output_rows.push_back({id, t});
    else if (wanted == Logits::last && done)
      output_rows.push_back({id, end - 1});
    if (done && !last && !drafted) narrow(sequence);
    if (last && (!goes_on || done)) sequence.length = sequence.fed;
    std::erase_if(sequence.compressions, [&](const Compression& one) {
      return one.end <= sequence.length && (compress(sequence, one), true);
    });
    if (done && last) halted = {};
    if (done && (last || drafted)) sequence.stretches.erase(sequence.stretches.begin());
  }

  /// What has come to the end of a stage waits there.
  void halt(Halted& halted, const Segment& segment, bool goes_on) {
    const auto d = static_cast<std::size_t>(config.d_model);
    if (!goes_on) {
      halted.layer = pass.stage.end;
      const auto from = pass.positions.begin() + static_cast<std::ptrdiff_t>(segment.row);
      halted.positions.insert(halted.positions.end(), from, from + static_cast<std::ptrdiff_t>(segment.count));
      halted.rows.resize(halted.positions.size() * d);
    }
    const std::size_t to = goes_on ? halted.done : halted.positions.size() - segment.count;
    for (std::size_t i = 0; i < segment.count; ++i)
      std::ranges::copy(workspace.x[segment.row + i], &halted.rows[(to + i) * d]);
  }

  /// At the end of a stage: those that are to leave, leave, and the others wait for the next.
  void narrow(Sequence& sequence) {
    Halted& halted = sequence.halted;
    halted.layer = pass.stage.end;
    halted.done = 0;
    // The logits are the last token's.
    if (const Position last = halted.positions.back(); sequence.stay.empty() || sequence.stay.back() != last)
      sequence.stay.push_back(last);
    const std::vector<Position> gone = halted.leave(sequence.stay, static_cast<std::size_t>(config.d_model));
    for (std::size_t layer = halted.layer; layer < config.layers.size(); ++layer) sequence.cache.pass_over(layer, gone);
  }

  /// Of the prompt that a segment is of: layers count, where it goes through them in stages.
  Progress progress(SequenceId id, const Segment& segment) const {
    const auto total = static_cast<std::size_t>(segment.prompt_end - segment.prompt_begin);
    if (segment.row < pass.stage.row)
      return {id, static_cast<std::size_t>(segment.next() - segment.prompt_begin), total};
    const Sequence& sequence = find(id);
    const Halted& halted = sequence.halted;
    if (halted.layer == 0) return {id, total, total};
    const std::size_t begin = pass.stage.begin, end = pass.stage.end, n = config.layers.size();
    const bool reading = begin == 0, over = reading ? sequence.fed == segment.prompt_end : halted.layer == end;
    if (over) return {id, total * end / n, total};
    const std::size_t done = reading ? halted.positions.size() : halted.done;
    const std::size_t all = reading ? total : halted.positions.size();
    return {id, total * (begin * all + (end - begin) * done) / (n * all), total};
  }

  void report_drops(SequenceId id) {
    find(id).cache.log().take_fresh([&](const Drop& drop) {
      if (options.on_drop) reports.push_back({Report::Kind::drop, id, drop});
    });
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
        // What goes on into a stage was fed before.
        if (segment.stream.rows > 0)
          return options.on_pass({report.sequence, find(report.sequence).fed, {}, segment.cache->bytes(), live_rows});
        return options.on_pass({report.sequence, segment.first,
                                std::span(reported_tokens).subspan(segment.row, segment.count), segment.cache->bytes(),
                                live_rows, segment.focus});
      case Report::Kind::prefill:
        return options.on_prefill(report.progress);
    }
  }

  bool busy() const {
    return std::ranges::any_of(sequences, [](const auto& entry) { return !entry.second.stretches.empty(); });
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
  const std::vector<Stage> stages;  // of a prompt
  const std::size_t context;
  const std::uint64_t parameters = model.parameters();
  const KvLayouts layouts;
  PagePool pool;
  const Threads threads;
  std::map<SequenceId, Sequence> sequences;  // after the pool: their pages return to it
  std::uint32_t next_id = 0;
  SequenceId last_staged{};  // the latest that had a stage of its own

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
  impl_->append(sequence, prompt, {.kind = Stretch::Kind::prompt, .logits = logits});
  return impl_->insert(std::move(sequence));
}

SequenceId Session::add(View<const float> embeddings, Logits logits) {
  Sequence sequence = impl_->make_sequence();
  impl_->append(sequence, embeddings, {.kind = Stretch::Kind::prompt, .logits = logits});
  return impl_->insert(std::move(sequence));
}

void Session::prompt(SequenceId sequence, std::span<const Token> tokens, Logits logits) {
  impl_->append(impl_->can_be_fed(sequence, "prompt"), tokens, {.kind = Stretch::Kind::prompt, .logits = logits});
}

void Session::prompt(SequenceId sequence, View<const float> embeddings, Logits logits) {
  impl_->append(impl_->can_be_fed(sequence, "prompt"), embeddings, {.kind = Stretch::Kind::prompt, .logits = logits});
}

void Session::push(SequenceId sequence, Token token, Logits logits) { push(sequence, std::span(&token, 1), logits); }

void Session::push(SequenceId sequence, std::span<const Token> tokens, Logits logits) {
  impl_->append(impl_->at_rest(sequence, "push"), tokens, {.kind = Stretch::Kind::decoded, .logits = logits});
}

void Session::push(SequenceId sequence, View<const float> embeddings, Logits logits) {
  impl_->append(impl_->at_rest(sequence, "push"), embeddings, {.kind = Stretch::Kind::decoded, .logits = logits});
}

void Session::draft(SequenceId sequence, Token token, std::size_t layers) {
  Sequence& s = impl_->between_steps(sequence, "draft");
  if (!s.stretches.empty()) impl_->at_rest(sequence, "draft");
  if (const std::size_t n = impl_->config.layers.size(); layers < 1 || layers >= n)
    fail(ErrorCode::argument, "draft: layers", "from 1 to " + std::to_string(n - 1), std::to_string(layers));
  require(!impl_->needs.after_pass, ErrorCode::unsupported,
          "draft: expected a policy that judges layer by layer, found one that judges them together");
  require(
      !shares_lanes(impl_->config), ErrorCode::unsupported,
      "draft: expected a model whose layers all have keys and values of their own, found one where some share them");
  if (s.halted.layer > 0 && s.halted.layer != layers)
    fail(ErrorCode::argument, "draft: layers", "the " + std::to_string(s.halted.layer) + " of the tokens before",
         std::to_string(layers));
  impl_->append(s, std::span(&token, 1), {.kind = Stretch::Kind::drafted, .logits = Logits::last, .exit = layers});
}

void Session::verify(SequenceId sequence) {
  Sequence& s = impl_->between_steps(sequence, "verify");
  if (s.halted.layer == 0 || !s.stretches.empty())
    fail(ErrorCode::state, "verify", "drafted tokens that have been fed", "none");
  s.stretches.push_back({.kind = Stretch::Kind::decoded, .begin = s.length, .end = s.fed, .logits = Logits::all});
}

void Session::mark(SequenceId sequence) {
  Sequence& s = impl_->at_rest(sequence, "mark");
  require(s.compressions.empty(), ErrorCode::state,
          "mark: expected a sequence that is not to be compressed, found one that is");
  commit(sequence);
  s.cache.mark();
  s.mark = s.length;
}

void Session::rewind(SequenceId sequence, std::size_t length) {
  Sequence& s = impl_->between_steps(sequence, "rewind");
  const auto to = static_cast<Position>(std::min<std::size_t>(length, never));
  if (!s.mark) fail(ErrorCode::state, "rewind", "a sequence that is marked", "one whose dropped rows are gone");
  if (to < *s.mark || to > s.length)
    fail(ErrorCode::argument, "rewind",
         "a length from the mark's " + std::to_string(*s.mark) + " to " + std::to_string(s.length),
         std::to_string(length));
  for (const auto& [begin, end] : s.prompts)
    if (begin < to && to < end)
      fail(ErrorCode::argument, "rewind",
           "a length outside the prompt from " + std::to_string(begin) + " to " + std::to_string(end),
           std::to_string(length));
  s.cache.rewind(to);
  s.pending.clear();
  s.stretches.clear();
  s.halted = {};
  while (!s.prompts.empty() && s.prompts.back().begin >= to) s.prompts.pop_back();
  s.fed = s.length = to;
}

void Session::commit(SequenceId sequence) {
  Sequence& s = impl_->between_steps(sequence, "commit");
  if (!s.mark) return;
  s.mark.reset();
  s.cache.commit();
  impl_->report_drops(sequence);
  impl_->report();
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
  Sequence& s = impl_->committed(sequence, "tau");
  require(!std::isnan(tau), ErrorCode::argument, "tau: expected a number, found NaN");
  require(impl_->needs.gate, ErrorCode::unsupported, "tau: expected a policy with the learned gate, found none");
  s.tau = tau;
}

void Session::keep(SequenceId sequence, std::span<const Position> positions) {
  Sequence& s = impl_->committed(sequence, "keep");
  Impl::check_positions(positions, static_cast<Position>(impl_->context), "keep", "the context");
  std::vector<Position> there, ahead;
  for (const Position position : positions) {
    if (position < s.fed) there.push_back(position);
    if (position >= s.length) ahead.push_back(position);  // of some layers, or of all
  }
  for (std::size_t layer = 0; layer < s.cache.layers(); ++layer)
    s.cache.keep(layer, there, impl_->config.layers[layer].window);
  s.cache.keep_ahead(ahead);
}

void Session::forget(SequenceId sequence, std::size_t layer, std::span<const Position> positions) {
  Sequence& s = impl_->committed(sequence, "forget");
  Impl::check_positions(positions, s.length, "forget", "the sequence's length");
  if (layer >= s.cache.layers())
    fail(ErrorCode::argument, "forget", "a layer below " + std::to_string(s.cache.layers()), std::to_string(layer));
  s.cache.forget(layer, positions, s.length);
}

void Session::compress(SequenceId sequence, Position begin, Position end, std::span<const Position> pins) {
  Sequence& s = impl_->committed(sequence, "compress");
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
  Sequence& sequence = s.committed(id, "compress");
  const auto number = [](const char* what, float value, float least, const char* range) {
    if (!(value >= least)) fail(ErrorCode::argument, std::string("compress: ") + what, range, std::to_string(value));
  };
  number("share", how.share <= 1 ? how.share : -1, 0, "a number from 0 to 1");
  number("sinks", static_cast<float>(how.sinks), 0, "at least 0");
  number("chunk", static_cast<float>(how.chunk), 1, "at least 1");
  number("overlap", static_cast<float>(how.overlap), 0, "at least 0");
  s.at_rest(id, "compress");
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
