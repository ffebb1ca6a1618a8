// SPDX-License-Identifier: MIT
#include "session/sequence.hpp"

#include <cmath>
#include <string>
#include <utility>

#include "pith/error.hpp"

namespace pith {

void Halted::add(const Segment& segment, std::span<const Position> its_positions, std::size_t before,
                 View<const float> stream) {
  const bool goes_on = segment.stream.rows > 0;
  if (!goes_on) {
    layer = before;
    positions.insert(positions.end(), its_positions.begin(), its_positions.end());
    rows.resize(positions.size() * stream.cols);
  }
  const std::size_t to = goes_on ? done : positions.size() - segment.count;
  for (std::size_t i = 0; i < segment.count; ++i) std::ranges::copy(stream[i], &rows[(to + i) * stream.cols]);
}

std::vector<Position> Halted::leave(std::span<const Position> stay, std::size_t d_model) {
  std::vector<Position> gone;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (!std::ranges::binary_search(stay, positions[i])) {
      gone.push_back(positions[i]);
      continue;
    }
    positions[kept] = positions[i];
    std::copy_n(&rows[i * d_model], d_model, &rows[kept * d_model]);
    ++kept;
  }
  positions.resize(kept);
  rows.resize(kept * d_model);
  return gone;
}

namespace {

void check_room(const Sequence& sequence, const Setup& setup, std::size_t tokens) {
  if (tokens == 0) fail(ErrorCode::argument, "tokens", "at least one", "none");
  if (const std::size_t total = static_cast<std::size_t>(sequence.total()) + tokens; total > setup.context)
    fail(ErrorCode::argument, "sequence", "at most the context's " + std::to_string(setup.context) + " tokens",
         std::to_string(total));
}

}  // namespace

void Sequence::append(const Setup& setup, std::span<const Token> more, Stretch stretch) {
  check_room(*this, setup, more.size());
  for (const Token token : more)
    if (token < 0 || token >= setup.config.vocab_size)
      fail(ErrorCode::argument, "token", "an id from 0 to " + std::to_string(setup.config.vocab_size - 1),
           std::to_string(token));
  add(more, std::move(stretch));
}

void Sequence::append(const Setup& setup, View<const float> embeddings, Stretch stretch) {
  check_room(*this, setup, embeddings.rows);
  if (embeddings.cols != setup.d_model())
    fail(ErrorCode::argument, "embeddings", "rows of the model's " + std::to_string(setup.d_model()) + " numbers",
         "of " + std::to_string(embeddings.cols));
  for (std::size_t i = 0; i < embeddings.rows; ++i) {
    const auto row = embeddings[i];
    if (const auto bad = std::ranges::find_if(row, [](float x) { return !std::isfinite(x); }); bad != row.end())
      fail(ErrorCode::argument, "embeddings", "finite numbers", std::to_string(*bad) + " in row " + std::to_string(i));
    stretch.embeddings.insert(stretch.embeddings.end(), row.begin(), row.end());
  }
  add(std::vector<Token>(embeddings.rows, no_token), std::move(stretch));
}

void Sequence::add(std::span<const Token> more, Stretch stretch) {
  stretch.begin = total();
  stretch.end = stretch.begin + static_cast<Position>(more.size());
  stretches.reserve(stretches.size() + 1);
  pending.insert(pending.end(), more.begin(), more.end());
  stretches.push_back(std::move(stretch));
}

void Sequence::require_rest(const char* what) const {
  if (!stretches.empty())
    fail(ErrorCode::state, what, "a sequence whose tokens have all been fed",
         std::to_string(std::max<std::size_t>(pending.size(), halted.left())) + " pending");
  if (halted.layer > 0)
    fail(ErrorCode::state, what, "a sequence whose drafted tokens were verified or taken back",
         std::to_string(halted.left()) + " that were not");
}

void Sequence::require_no_drafts(const char* what) const {
  const bool drafting = stretches.empty() ? halted.layer > 0 : stretches.front().kind == Stretch::Kind::drafted;
  if (drafting)
    fail(ErrorCode::state, what, "a sequence whose drafted tokens were verified or taken back", "some that were not");
}

Stage Sequence::next_stage(const Setup& setup) const {
  const Stretch& next = stretches.front();
  const Stage all = setup.all_layers();
  if (next.kind == Stretch::Kind::drafted) return {.begin = 0, .end = next.exit};
  if (next.kind == Stretch::Kind::decoded) return halted.layer > 0 ? Stage{.begin = halted.layer, .end = all.end} : all;
  if (next.logits == Logits::all) return all;  // of a token that left there would be none
  return *std::ranges::find(setup.stages, fed < next.end ? 0 : halted.layer, &Stage::begin);
}

std::size_t Sequence::left() const {
  Position end = stretches.front().end;
  for (const Compression& one : compressions)
    if (one.end > fed) end = std::min(end, one.end);
  return fed < end ? static_cast<std::size_t>(end - fed) : halted.left();
}

bool Sequence::fits_alone(const Setup& setup, std::size_t count) const {
  const std::size_t budget = setup.options.kv_budget;
  return budget == 0 || cache.bytes_for(count) <= budget - std::min(budget, cache.bytes());
}

std::size_t Sequence::next_chunk(const Setup& setup) const {
  // What judges all layers, or some that share lanes, together acts once a pass: tokens that act one by one have a
  // pass each.
  const bool each =
      (setup.needs.after_pass || setup.shares_lanes()) && stretches.front().kind == Stretch::Kind::decoded;
  std::size_t count = each ? 1 : std::min(left(), static_cast<std::size_t>(setup.options.chunk));
  while (count > 0 && !fits_alone(setup, count)) count /= 2;
  return count;
}

std::size_t Sequence::next_chunks(const Setup& setup, std::size_t room) const {
  const std::size_t first = next_chunk(setup), chunk = static_cast<std::size_t>(setup.options.chunk);
  if (!setup.by_rounds || stretches.front().kind != Stretch::Kind::prompt || first < chunk) return first;
  const std::size_t all = left(), count = all <= room ? all : room / chunk * chunk;
  // Under a budget each of them has to have the room that it would have in its turn.
  return fits_alone(setup, count) ? std::max(first, count) : first;
}

std::size_t Sequence::advance(const Setup& setup, const Pass& pass, const Segment& segment, View<const float> x) {
  Stretch& stretch = stretches.front();
  const bool staged = segment.row >= pass.stage.row, goes_on = segment.stream.rows > 0;
  const bool last = !staged || pass.stage.end == setup.config.layers.size();
  if (!goes_on) {
    const auto end = pending.begin() + static_cast<std::ptrdiff_t>(segment.count);
    tokens.insert(tokens.end(), pending.begin(), end);
    pending.erase(pending.begin(), end);
    fed = segment.next();
  }
  if (!last)
    halted.add(segment, std::span(pass.positions).subspan(segment.row, segment.count), pass.stage.end,
               x.rows_from(segment.row, segment.count));
  if (goes_on) halted.done += segment.count;
  const bool done = fed == stretch.end && (!goes_on || halted.left() == 0);
  const bool drafted = stretch.kind == Stretch::Kind::drafted;
  const Logits wanted = last || drafted ? stretch.logits : Logits::none;
  if (done && !last && !drafted) narrow(setup, pass.stage);
  if (last && (!goes_on || done))
    length = fed;
  else if (last && stretch.kind == Stretch::Kind::decoded)
    length = segment.next();  // drafted tokens all go on, of a prompt's some may have left
  std::erase_if(compressions, [&](const Compression& one) { return one.end <= length && (compress(one), true); });
  if (done && last) halted = {};
  if (done && (last || drafted)) stretches.erase(stretches.begin());
  return wanted == Logits::all ? segment.count : wanted == Logits::last && done ? 1 : 0;
}

/// At the end of a stage: those that are to leave, leave, and the others wait for the next.
void Sequence::narrow(const Setup& setup, const Stage& stage) {
  halted.layer = stage.end;
  halted.done = 0;
  // The logits are the last token's.
  if (const Position last = halted.positions.back(); stay.empty() || stay.back() != last) stay.push_back(last);
  const std::vector<Position> gone = halted.leave(stay, setup.d_model());
  for (std::size_t layer = halted.layer; layer < setup.config.layers.size(); ++layer) cache.pass_over(layer, gone);
}

void Sequence::compress(const Compression& one) {
  std::vector<Position> others;
  for (Position position = one.begin; position < one.end; ++position)
    if (!std::ranges::binary_search(one.pins, position)) others.push_back(position);
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) cache.forget(layer, others, length);
}

void Sequence::break_off() noexcept {
  pending.clear();
  stretches.clear();
  halted = {};
  broken = true;
}

void Sequence::go_back(Position to) {
  mark ? cache.rewind(to) : cache.take_back(to);
  tokens.resize(static_cast<std::size_t>(to));
  pending.clear();
  stretches.clear();
  halted = {};
  while (!prompts.empty() && prompts.back().begin >= to) prompts.pop_back();
  if (!prompts.empty()) prompts.back().end = std::min(prompts.back().end, to);
  fed = length = to;
}

void Sequence::copy_from(const Sequence& other) {
  cache.copy_from(other.cache);
  tokens = other.tokens;
  pending = other.pending;
  stretches = other.stretches;
  fed = other.fed;
  length = other.length;
  halted = other.halted;
  prompts = other.prompts;
  tau = other.tau;
  compressions = other.compressions;
}

}  // namespace pith
