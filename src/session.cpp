// SPDX-License-Identifier: MIT
#include "pith/session.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "files/input_file.hpp"
#include "files/output_file.hpp"
#include "fingerprint.hpp"
#include "pith/error.hpp"
#include "session/impl.hpp"
#include "session/saved.hpp"
#include "tensor/worth_sharing.hpp"

namespace pith {

Sequence& Session::Impl::whole(SequenceId id, const char* what) {
  Sequence& sequence = sequences.find(id);
  if (sequence.broken) fail(ErrorCode::state, what, "a sequence that is whole", "one whose step failed halfway");
  return sequence;
}

Sequence& Session::Impl::between_steps(SequenceId id, const char* what) {
  Sequence& sequence = whole(id, what);
  if (schedule.has(sequence))
    fail(ErrorCode::state, what, "a sequence between two steps", "one whose step was cancelled halfway");
  return sequence;
}

Sequence& Session::Impl::committed(SequenceId id, const char* what) {
  Sequence& sequence = between_steps(id, what);
  require(!sequence.mark, ErrorCode::state, std::string(what) + ": expected a sequence without a mark, found one with");
  return sequence;
}

Sequence& Session::Impl::at_rest(SequenceId id, const char* what) {
  Sequence& sequence = whole(id, what);
  sequence.require_rest(what);
  return sequence;
}

const std::string& Session::Impl::fingerprint() {
  if (fingerprint_.empty()) fingerprint_ = pith::fingerprint(setup.model);
  return fingerprint_;
}

Restored Session::Impl::restore(std::span<const std::byte> saved, const std::string& whose) {
  SavedSequence made = pith::restore(saved, whose, setup, fingerprint(), sequences);
  return {sequences.insert(std::move(made.sequence)), std::move(made.note)};
}

bool Session::Impl::gathers() const {
  std::uint64_t tokens = schedule.pass.tokens.size();
  for (const auto& [id, sequence] : sequences.all) tokens += sequence.pending.size() + sequence.halted.left();
  return tokens * (parameters + sequences.pool.bytes_used() / sizeof(float)) >= worth_gathering;
}

std::span<const Output> Session::Impl::run(const std::stop_token& stop, bool one_pass, std::size_t most) {
  if (outputs_given) outputs.clear();
  outputs_given = false;
  reports.tell();
  const auto work = [&] {
    while (outputs.empty() && sequences.busy()) {
      advance(stop, most);
      if (one_pass) break;
    }
  };
  gathers() ? threads.gather(work) : work();
  outputs_given = true;
  return outputs;
}

/// One forward pass, or what is left of it.
void Session::Impl::advance(const std::stop_token& stop, std::size_t most) {
  Pass& pass = schedule.pass;
  if (pass.empty()) schedule.plan(setup, sequences, most);
  try {
    if (!forward(setup.config, setup.model.weights(), setup.policy, pass, workspace, threads, stop))
      fail(ErrorCode::cancelled, "step: stopped before layer " + std::to_string(pass.layer));
    setup.model.check_files();
    complete();
  } catch (const SegmentError& error) {
    setup.model.check_files();
    throw SequenceError(error.code(), error.what(), schedule.owners[error.segment()]);
  } catch (const Error&) {
    throw;  // before anything was changed, between two layers, or for good
  } catch (...) {
    abandon_pass();
    throw;
  }
  reports.tell();
}

/// What a pass that failed halfway has left of its sequences is of no use; the others never knew.
void Session::Impl::abandon_pass() noexcept {
  for (std::size_t s = 0; s < schedule.pass.segments.size(); ++s)
    if (schedule.pass.segments[s].cache != nullptr) sequences.find(schedule.owners[s]).break_off();
  schedule.clear();
  outputs.clear();
}

/// Takes what the finished pass fed off the pending tokens, and computes the logits that are asked for.
void Session::Impl::complete() {
  Pass& pass = schedule.pass;
  const auto each = [&](auto&& f) {
    for (std::size_t s = 0; s < pass.segments.size(); ++s)
      if (pass.segments[s].cache != nullptr) f(schedule.owners[s], pass.segments[s]);
  };
  output_rows.clear();
  each([&](SequenceId id, const Segment& segment) {
    const std::size_t wanted = sequences.find(id).advance(setup, pass, segment, workspace.x.view());
    const std::size_t end = segment.row + segment.count;
    for (std::size_t row = end - wanted; row < end; ++row) output_rows.push_back({id, row});
  });
  compute_logits();
  each([&](SequenceId id, const Segment&) {
    if (!sequences.find(id).mark) reports.add_drops(id);
  });
  reports.add_pass(schedule);
  schedule.clear();
}

void Session::Impl::compute_logits() {
  final.resize(output_rows.size(), setup.d_model());
  logits.resize(output_rows.size(), static_cast<std::size_t>(setup.config.vocab_size));
  if (output_rows.empty()) return;
  for (std::size_t i = 0; i < output_rows.size(); ++i)
    std::ranges::copy(workspace.x[output_rows[i].second], final.values()[i].begin());
  unembed(setup.config, setup.model.weights(), final, logits.view(), threads);
  setup.model.check_files();
  for (std::size_t i = 0; i < output_rows.size(); ++i) outputs.push_back({output_rows[i].first, logits[i]});
}

namespace {

void check_positions(std::span<const Position> positions, Position end, const char* what, const char* whose) {
  for (const Position position : positions)
    if (position < 0 || position >= end)
      fail(ErrorCode::argument, what, "a position below " + std::string(whose) + " of " + std::to_string(end),
           std::to_string(position));
}

}  // namespace

Session::Session(Model model, SessionOptions options)
    : impl_(std::make_unique<Impl>(std::move(model), std::move(options))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

SequenceId Session::add(std::span<const Token> prompt, Logits logits) {
  Sequence sequence = impl_->sequences.make();
  sequence.append(impl_->setup, prompt, {.kind = Stretch::Kind::prompt, .logits = logits});
  return impl_->sequences.insert(std::move(sequence));
}

SequenceId Session::add(View<const float> embeddings, Logits logits) {
  Sequence sequence = impl_->sequences.make();
  sequence.append(impl_->setup, embeddings, {.kind = Stretch::Kind::prompt, .logits = logits});
  return impl_->sequences.insert(std::move(sequence));
}

void Session::prompt(SequenceId sequence, std::span<const Token> tokens, Logits logits) {
  Sequence& s = impl_->whole(sequence, "prompt");
  s.require_no_drafts("prompt");
  s.append(impl_->setup, tokens, {.kind = Stretch::Kind::prompt, .logits = logits});
}

void Session::prompt(SequenceId sequence, View<const float> embeddings, Logits logits) {
  Sequence& s = impl_->whole(sequence, "prompt");
  s.require_no_drafts("prompt");
  s.append(impl_->setup, embeddings, {.kind = Stretch::Kind::prompt, .logits = logits});
}

void Session::push(SequenceId sequence, Token token, Logits logits) { push(sequence, std::span(&token, 1), logits); }

void Session::push(SequenceId sequence, std::span<const Token> tokens, Logits logits) {
  impl_->at_rest(sequence, "push").append(impl_->setup, tokens, {.kind = Stretch::Kind::decoded, .logits = logits});
}

void Session::push(SequenceId sequence, View<const float> embeddings, Logits logits) {
  impl_->at_rest(sequence, "push").append(impl_->setup, embeddings, {.kind = Stretch::Kind::decoded, .logits = logits});
}

void Session::draft(SequenceId sequence, Token token, std::size_t layers) {
  Sequence& s = impl_->between_steps(sequence, "draft");
  if (!s.stretches.empty()) s.require_rest("draft");
  if (const std::size_t n = impl_->setup.config.layers.size(); layers < 1 || layers >= n)
    fail(ErrorCode::argument, "draft: layers", "from 1 to " + std::to_string(n - 1), std::to_string(layers));
  require_early_exit(impl_->setup.config, impl_->setup.needs);
  if (s.halted.layer > 0 && s.halted.layer != layers)
    fail(ErrorCode::argument, "draft: layers", "the " + std::to_string(s.halted.layer) + " of the tokens before",
         std::to_string(layers));
  s.append(impl_->setup, std::span(&token, 1),
           {.kind = Stretch::Kind::drafted, .logits = Logits::last, .exit = layers});
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
  Impl::change(s, [&] { s.cache.mark(); });
  s.mark = s.length;
}

void Session::rewind(SequenceId sequence, std::size_t length) {
  Sequence& s = impl_->between_steps(sequence, "rewind");
  const auto to = static_cast<Position>(std::min<std::size_t>(length, never));
  if (to > s.length || (s.mark && to < *s.mark))
    fail(ErrorCode::argument, "rewind",
         "a length " + (s.mark ? "from the mark's " + std::to_string(*s.mark) : std::string("up")) + " to " +
             std::to_string(s.length),
         std::to_string(length));
  // Other policies may have judged by what came since.
  const Position settled = impl_->setup.takes_back ? s.cache.settled() : s.fed;
  if (!s.mark && to < settled && to < s.fed)
    fail(ErrorCode::state, "rewind",
         "a mark, or a length from " + std::to_string(settled) +
             " on, as rows of what was before may have been dropped or changed since",
         std::to_string(length));
  for (const auto& [begin, end] : s.prompts)
    if (s.mark && begin < to && to < end)
      fail(ErrorCode::argument, "rewind",
           "a length outside the prompt from " + std::to_string(begin) + " to " + std::to_string(end),
           std::to_string(length));
  Impl::change(s, [&] { s.go_back(to); });
}

void Session::commit(SequenceId sequence) {
  Sequence& s = impl_->between_steps(sequence, "commit");
  if (!s.mark) return;
  Impl::change(s, [&] {
    s.cache.commit();
    s.mark.reset();
    impl_->reports.add_drops(sequence);
  });
  impl_->reports.tell();
}

std::span<const Output> Session::step(std::stop_token stop) { return impl_->run(stop, false, SIZE_MAX); }

std::span<const Output> Session::pass(std::stop_token stop, std::size_t most) { return impl_->run(stop, true, most); }

Tensor<float> Session::take_logits() { return std::exchange(impl_->logits, {}); }

bool Session::idle() const {
  const Impl& s = *impl_;
  return !s.sequences.busy() && s.reports.empty() && (s.outputs_given || s.outputs.empty());
}

std::size_t Session::waiting() const { return impl_->schedule.waiting; }

void Session::finish(SequenceId sequence) {
  Impl& s = *impl_;
  s.schedule.leave_out(s.sequences.find(sequence));
  // What a callback that threw has left of it. Logits that were given stay: the caller may be walking through them.
  s.reports.forget(sequence);
  if (!s.outputs_given) std::erase_if(s.outputs, [&](const Output& o) { return o.sequence == sequence; });
  s.sequences.erase(sequence);
}

SequenceId Session::fork(SequenceId sequence) { return impl_->sequences.fork(impl_->committed(sequence, "fork")); }

std::string Session::save(SequenceId sequence) const {
  return pith::save(impl_->committed(sequence, "save"), impl_->setup, impl_->fingerprint(), {});
}

void Session::save(SequenceId sequence, const std::filesystem::path& file, std::string_view note) const {
  const std::string bytes = pith::save(impl_->committed(sequence, "save"), impl_->setup, impl_->fingerprint(), note);
  OutputFile out(file);
  out.write(bytes);
  out.finish();
}

Restored Session::restore(std::span<const std::byte> saved) { return impl_->restore(saved, "saved sequence"); }

Restored Session::restore(const std::filesystem::path& file) {
  return impl_->restore(InputFile::open(file)->bytes(), file.string());
}

void Session::set_tau(SequenceId sequence, float tau) {
  Sequence& s = impl_->committed(sequence, "tau");
  require(!std::isnan(tau), ErrorCode::argument, "tau: expected a number, found NaN");
  require(impl_->setup.needs.gate, ErrorCode::unsupported, "tau: expected a policy with the learned gate, found none");
  s.tau = tau;
}

void Session::keep(SequenceId sequence, std::span<const Position> positions) {
  Sequence& s = impl_->committed(sequence, "keep");
  check_positions(positions, static_cast<Position>(impl_->setup.context), "keep", "the context");
  impl_->sequences.require_room_to_change(s);
  std::vector<Position> there, ahead;
  for (const Position position : positions) {
    if (position < s.fed) there.push_back(position);
    if (position >= s.length) ahead.push_back(position);  // of some layers, or of all
  }
  Impl::change(s, [&] {
    for (std::size_t layer = 0; layer < s.cache.layers(); ++layer)
      s.cache.keep(layer, there, impl_->setup.config.layers[layer].window);
    s.cache.keep_ahead(ahead);
  });
}

void Session::forget(SequenceId sequence, std::size_t layer, std::span<const Position> positions) {
  Sequence& s = impl_->committed(sequence, "forget");
  check_positions(positions, s.length, "forget", "the sequence's length");
  if (layer >= s.cache.layers())
    fail(ErrorCode::argument, "forget", "a layer below " + std::to_string(s.cache.layers()), std::to_string(layer));
  impl_->sequences.require_room_to_change(s);
  Impl::change(s, [&] { s.cache.forget(layer, positions, s.length); });
}

bool Session::broken(SequenceId sequence) const { return impl_->sequences.find(sequence).broken; }

std::size_t Session::context() const { return impl_->setup.context; }

std::size_t Session::length(SequenceId sequence) const {
  return static_cast<std::size_t>(impl_->sequences.find(sequence).length);
}

std::span<const Token> Session::tokens(SequenceId sequence) const { return impl_->sequences.find(sequence).tokens; }

CacheStats Session::stats() const {
  std::vector<const Sequence*> all;
  for (const auto& [id, sequence] : impl_->sequences.all) all.push_back(&sequence);
  return impl_->sequences.stats_of(all);
}

CacheStats Session::stats(std::span<const SequenceId> some) const {
  std::vector<const Sequence*> all;
  for (const SequenceId id : some) all.push_back(&impl_->sequences.find(id));
  return impl_->sequences.stats_of(all);
}

CacheStats Session::stats(SequenceId sequence) const {
  const Sequence* const one = &impl_->sequences.find(sequence);
  return impl_->sequences.stats_of(std::span(&one, 1));
}

std::vector<std::vector<std::vector<std::int32_t>>> Session::drop_at(SequenceId sequence) const {
  const Sequence& s = impl_->sequences.find(sequence);
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

std::vector<std::uint32_t> Session::rows_gone(SequenceId sequence) const {
  const Sequence& s = impl_->sequences.find(sequence);
  const DropLog& log = s.cache.log();
  require(log.has_history(), ErrorCode::argument, "rows_gone: the session was made without record_drops");
  std::vector<std::uint32_t> gone(static_cast<std::size_t>(s.length));
  for (const std::vector<Position>& lane : log.record().until)
    for (std::size_t j = 0; j < std::min(lane.size(), gone.size()); ++j) gone[j] += lane[j] != never ? 1u : 0u;
  return gone;
}

std::size_t Session::trim() { return impl_->sequences.pool.trim(); }
const Model& Session::model() const { return impl_->setup.model; }
const prune::AnyPolicy& Session::policy() const { return impl_->setup.policy; }

}  // namespace pith
