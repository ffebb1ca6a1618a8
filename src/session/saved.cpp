// SPDX-License-Identifier: MIT
#include "session/saved.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "files/bytes.hpp"
#include "files/checksum.hpp"
#include "pith/error.hpp"

namespace pith {

namespace {

constexpr std::string_view magic = "pithsess";
constexpr std::uint32_t version = 1;
constexpr std::size_t head_bytes = magic.size() + sizeof version + sizeof(std::uint64_t);  // the size is the last of it
constexpr std::size_t capacity = PageLayout::capacity;

std::uint64_t checksum(std::span<const std::byte> bytes) {
  Checksum sum;
  sum.add(bytes);
  return sum.value();
}

// --- What a sequence can be made again by
// ------------------------------------------------------------------------------

struct Condition {
  const char* what;
  ErrorCode code;  // of a session in which it is otherwise
  std::string is;
};

std::string gate_keys_of(const Setup& setup) {
  const auto& shape = (setup.layouts.gate ? *setup.layouts.gate : setup.layouts.kv).shape();
  return shape.gate_dim == 0 ? "none" : std::string(name(shape.gate_keys));
}

/// Of LongRoPE's divisors those of long contexts turn all keys.
std::string rotation_of(const Setup& setup) {
  for (const RopeConfig& rope : setup.config.ropes)
    if (!rope.long_divisors.empty())
      return (setup.context > static_cast<std::size_t>(rope.original_context) ? "above " : "up to ") +
             std::to_string(rope.original_context);
  return "any";
}

std::vector<Condition> conditions(const Setup& setup, std::string_view model) {
  return {{"model", ErrorCode::model, std::string(model)},
          {"policy", ErrorCode::unsupported, setup.policy.describe()},
          {"cache format", ErrorCode::unsupported, name(setup.options.kv)},
          {"gate keys", ErrorCode::unsupported, gate_keys_of(setup)},
          {"context", ErrorCode::unsupported, rotation_of(setup)}};
}

// --- What a sequence was given
// -----------------------------------------------------------------------------------------

void write(ByteWriter& out, const Stretch& s) {
  out.number(s.kind);
  out.number(s.begin);
  out.number(s.end);
  out.number(s.logits);
  out.count(s.exit);
  out.numbers(s.embeddings);
}

void write(ByteWriter& out, const Halted& h) {
  out.count(h.layer);
  out.numbers(h.positions);
  out.numbers(h.rows);
  out.count(h.done);
}

void write(ByteWriter& out, const Compression& c) {
  out.number(c.begin);
  out.number(c.end);
  out.numbers(c.pins);
}

void write(ByteWriter& out, const Sequence::Prompt& p) {
  out.number(p.begin);
  out.number(p.end);
}

template <class T>
void write(ByteWriter& out, const std::vector<T>& all) {
  out.count(all.size());
  for (const T& one : all) write(out, one);
}

void write_given(ByteWriter& out, const Sequence& s) {
  out.number(s.length);
  out.numbers(s.tokens);
  out.numbers(s.pending);
  write(out, s.stretches);
  write(out, s.halted);
  write(out, s.prompts);
  out.number(static_cast<std::uint8_t>(s.tau.has_value()));
  out.number(s.tau.value_or(0));
  write(out, s.compressions);
}

void read(ByteReader& in, Stretch& s) {
  s.kind = in.number<Stretch::Kind>();
  s.begin = in.number<Position>();
  s.end = in.number<Position>();
  s.logits = in.number<Logits>();
  s.exit = static_cast<std::size_t>(in.number<std::uint64_t>());
  s.embeddings = in.numbers<float>();
}

void read(ByteReader& in, Halted& h) {
  h.layer = static_cast<std::size_t>(in.number<std::uint64_t>());
  h.positions = in.numbers<Position>();
  h.rows = in.numbers<float>();
  h.done = static_cast<std::size_t>(in.number<std::uint64_t>());
}

void read(ByteReader& in, Compression& c) {
  c.begin = in.number<Position>();
  c.end = in.number<Position>();
  c.pins = in.numbers<Position>();
}

void read(ByteReader& in, Sequence::Prompt& p) {
  p.begin = in.number<Position>();
  p.end = in.number<Position>();
}

template <class T>
void read(ByteReader& in, std::vector<T>& all) {
  all.resize(in.count(2 * sizeof(Position)));
  for (T& one : all) read(in, one);
}

bool ascends_below(std::span<const Position> positions, Position end) {
  return std::ranges::is_sorted(positions) && (positions.empty() || (positions.front() >= 0 && positions.back() < end));
}

/// What was saved is whole; that it makes sense keeps a forged file from doing more than to fail.
void check_given(const ByteReader& in, const Sequence& s, const Setup& setup) {
  const std::size_t d = setup.d_model(), n_layers = setup.config.layers.size();
  const auto context = static_cast<Position>(setup.context);
  const auto known = [&](Token token) { return token >= no_token && token < setup.config.vocab_size; };
  in.expect(std::ranges::all_of(s.tokens, known) && std::ranges::all_of(s.pending, known), "tokens of the model");
  in.expect(0 <= s.length && s.length <= s.fed, "a length up to the tokens that were fed");
  Position end = s.stretches.empty() ? s.fed : s.stretches.front().begin;
  in.expect(0 <= end && end <= s.fed, "a call that begins with what was fed");
  for (const Stretch& one : s.stretches) {
    in.expect(one.kind <= Stretch::Kind::drafted && one.logits <= Logits::none, "a known kind of call");
    in.expect(one.begin == end && one.begin < one.end && one.end <= s.total(), "calls one after the other");
    in.expect(one.kind != Stretch::Kind::drafted || (one.exit > 0 && one.exit < n_layers), "a layer to leave before");
    const auto count = static_cast<std::size_t>(one.end - one.begin);
    in.expect(one.embeddings.empty() || one.embeddings.size() == count * d, "an embedding for each token");
    for (Position p = std::max(one.begin, s.fed); p < one.end && one.embeddings.empty(); ++p)
      in.expect(s.pending[static_cast<std::size_t>(p - s.fed)] != no_token, "a token or an embedding");
    end = one.end;
  }
  in.expect(end == s.total(), "calls for all that is pending");
  const Halted& h = s.halted;
  in.expect(h.layer < n_layers && ascends_below(h.positions, s.fed) && h.rows.size() == h.positions.size() * d &&
                h.done <= h.positions.size(),
            "rows that wait before a layer");
  const bool goes_on = !s.stretches.empty() && s.fed == s.stretches.front().end;
  in.expect(!goes_on || (h.left() > 0 && h.layer > 0), "rows that go on");
  if (!s.stretches.empty() && s.stretches.front().kind == Stretch::Kind::prompt && h.layer > 0)
    in.expect(std::ranges::count(setup.stages, h.layer, &Stage::begin) > 0, "a stage of the policy's");
  for (const Sequence::Prompt& one : s.prompts)
    in.expect(0 <= one.begin && one.begin <= one.end && one.end <= context, "prompts within the context");
  for (const Compression& one : s.compressions)
    in.expect(0 <= one.begin && one.begin <= one.end && one.end <= context && ascends_below(one.pins, one.end) &&
                  (one.pins.empty() || one.pins.front() >= one.begin),
              "pins of the tokens between");
}

void read_given(ByteReader& in, Sequence& s, const Setup& setup) {
  s.length = in.number<Position>();
  s.tokens = in.numbers<Token>();
  s.pending = in.numbers<Token>();
  if (const std::size_t total = s.tokens.size() + s.pending.size(); total > setup.context)
    fail(ErrorCode::argument, in.whose() + ": sequence",
         "at most the context's " + std::to_string(setup.context) + " tokens", std::to_string(total));
  s.fed = static_cast<Position>(s.tokens.size());
  read(in, s.stretches);
  read(in, s.halted);
  read(in, s.prompts);
  const bool has_tau = in.number<std::uint8_t>() != 0;
  const auto tau = in.number<float>();
  if (has_tau) s.tau = tau;
  read(in, s.compressions);
  check_given(in, s, setup);
}

// --- Rows
// --------------------------------------------------------------------------------------------------------------

/// Calls f(bytes) for the tiles of a page, in their order.
template <class F>
void for_each_tile(const PageLayout& layout, std::byte* page, F&& f) {
  const PageLayout::Shape& shape = layout.shape();
  f(std::span(layout.gate(page), tile_bytes(shape.gate_keys, shape.gate_dim)));
  for (std::size_t h = 0; h < shape.heads; ++h) {
    f(std::span(layout.k(page, h), tile_bytes(shape.keys, shape.key_dim)));
    f(std::span(layout.v(page, h), tile_bytes(shape.values, shape.head_dim)));
  }
}

void write(ByteWriter& out, const Lane& lane) {
  out.numbers(lane.channels() != nullptr ? lane.channels()->kept : std::vector<std::uint16_t>());
  out.count(lane.states().size());
  for (const Lane::State& state : lane.states()) {
    out.text(state.name);
    out.numbers(state.numbers);
  }
  const PageLayout& layout = lane.layout();
  out.count(lane.rows());
  std::vector<std::byte> page(layout.bytes());
  for (std::size_t p = 0; p < lane.pages(); ++p) {
    std::ranges::fill(page, std::byte{0});  // a row alone is copied: what lies beside it is nobody's
    const std::size_t rows = lane.page(p).rows();
    std::uint32_t pinned = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      lane.save(p * capacity + i, page.data(), i);
      pinned |= std::uint32_t{lane.page(p).pinned(i)} << i;
    }
    out.bytes(std::as_bytes(std::span(layout.born(page.data()), rows)));
    out.bytes(std::as_bytes(std::span(layout.until(page.data()), rows)));
    out.number(pinned);
    for (const Column column : layout.shape().evidence)
      out.bytes(std::as_bytes(std::span(layout.evidence(page.data(), layout.slot(column)), rows)));
    for_each_tile(layout, page.data(), [&](std::span<std::byte> tile) { out.bytes(tile); });
  }
}

void check_channels(const ByteReader& in, const std::vector<std::uint16_t>& kept, const PageLayout::Shape& shape) {
  const std::size_t heads = std::max<std::size_t>(shape.heads, 1), dim = kept.size() / heads;
  in.expect(shape.heads > 0 && kept.size() == heads * dim && dim > 0 && dim < shape.head_dim &&
                dim % static_cast<std::size_t>(block_values(shape.keys)) == 0,
            "some channels of each head");
  for (std::size_t h = 0; h < heads; ++h) {
    const auto of = std::span(kept).subspan(h * dim, dim);
    in.expect(std::ranges::adjacent_find(of, std::greater_equal<>()) == of.end() && of.back() < shape.head_dim,
              "channels in their order");
  }
}

/// `columns`: names of those that were saved. `count`: [position] of how many lanes there are rows.
void read(ByteReader& in, const std::vector<std::string>& columns, Lane& lane, std::vector<std::uint32_t>& count) {
  if (auto kept = in.numbers<std::uint16_t>(); !kept.empty()) {
    check_channels(in, kept, lane.layout().shape());
    lane.keep_channels(std::move(kept));
  }
  for (std::size_t n = in.count(2 * sizeof(std::uint64_t)); n > 0; --n) {
    const std::string name = in.text();
    lane.state(name) = in.numbers<float>();
  }
  const PageLayout& layout = lane.layout();
  const std::size_t rows = in.count(2 * sizeof(Position));
  std::vector<bool> seen(count.size());
  std::vector<std::byte> page(layout.bytes());
  while (lane.rows() < rows) {
    const std::size_t n = std::min(capacity, rows - lane.rows());
    const auto take = [&](auto* to) { std::memcpy(to, in.bytes(n * sizeof *to).data(), n * sizeof *to); };
    Position* const born = layout.born(page.data());
    Position* const until = layout.until(page.data());
    take(born);
    take(until);
    const auto pinned = in.number<std::uint32_t>();
    for (const std::string& name : columns) {
      const Slot slot = layout.slot(Column(name));
      if (slot)
        take(layout.evidence(page.data(), slot));
      else
        in.bytes(n * sizeof(float));
    }
    for_each_tile(layout, page.data(),
                  [&](std::span<std::byte> tile) { std::ranges::copy(in.bytes(tile.size()), tile.begin()); });
    for (std::size_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(born[i]);
      in.expect(born[i] >= 0 && at < count.size() && !seen[at], "a row for each of some tokens");
      in.expect(until[i] > born[i], "rows that their own tokens see");
      seen[at] = true;
      ++count[at];
      const std::size_t row = lane.rows();
      lane.append(born[i], until[i]);
      lane.restore(row, page.data(), i);
      if ((pinned >> i & 1u) != 0) lane.pin(row, until[i]);
    }
  }
}

std::vector<std::string> names(const PageLayout& layout) {
  std::vector<std::string> all;
  for (const Column column : layout.shape().evidence) all.emplace_back(column.name());
  return all;
}

void write(ByteWriter& out, const std::vector<std::string>& texts) {
  out.count(texts.size());
  for (const std::string& text : texts) out.text(text);
}

void write_rows(ByteWriter& out, const KvCache& cache, const Setup& setup) {
  write(out, names(setup.layouts.kv));
  for (const Lane& lane : cache.every_lane()) write(out, lane);
  for (const Lane& lane : cache.gate_lanes()) write(out, lane);
  out.numbers(cache.kept_ahead());
  out.number(cache.end());
  out.number(cache.last_change());
  const DropLog& log = cache.log();
  out.numbers(log.record().dropped);
  out.count(log.record().until.size());
  for (const std::vector<Position>& until : log.record().until) out.numbers(until);
}

void read_columns(ByteReader& in, std::vector<std::string>& columns, const PageLayout& layout) {
  columns.resize(in.count(sizeof(std::uint64_t)));
  for (std::string& name : columns) name = in.text();
  for (const Column column : layout.shape().evidence)
    // The gate's logit is for a record alone, and known again with the next query.
    if (column != column::gate_logit && std::ranges::count(columns, column.name()) == 0)
      fail(ErrorCode::unsupported, in.whose() + ": columns", std::string(column.name()), "none of that name");
}

void read_log(ByteReader& in, DropLog& log, std::size_t fed) {
  DropLog::Record record;
  record.dropped = in.numbers<std::uint64_t>();
  record.until.resize(in.count(sizeof(std::uint64_t)));
  for (auto& until : record.until) until = in.numbers<Position>();
  in.expect(record.dropped.size() == log.record().dropped.size(), "a count of drops for each layer");
  if (!log.has_history()) {
    record.until.clear();
  } else {
    if (record.until.empty()) fail(ErrorCode::unsupported, in.whose() + ": record of drops", "one", "none");
    in.expect(record.until.size() == log.record().until.size(), "a record of drops for each lane");
    for (const auto& until : record.until) in.expect(until.size() <= fed, "drops of tokens that were fed");
  }
  log.restore(std::move(record));
}

void read_rows(ByteReader& in, Sequence& s, const Setup& setup) {
  KvCache& cache = s.cache;
  std::vector<std::string> columns;
  read_columns(in, columns, setup.layouts.kv);
  const std::size_t per_layer = cache.lanes_per_layer();
  std::vector<std::vector<std::uint32_t>> counts(cache.every_lane().size() / per_layer,
                                                 std::vector<std::uint32_t>(s.tokens.size()));
  for (std::size_t i = 0; i < cache.every_lane().size(); ++i)
    read(in, columns, cache.every_lane()[i], counts[i / per_layer]);
  std::vector<int> windows;  // of layers that fill lanes
  for (std::size_t layer = 0; layer < cache.layers(); ++layer)
    if (cache.owner(layer) == layer) windows.push_back(setup.config.layers[layer].window);
  for (std::size_t place = 0; place < cache.gate_lanes().size(); ++place) {
    Lane& gate = cache.gate_lanes()[place];
    std::vector<std::uint32_t> there(s.tokens.size());
    read(in, {std::string(column::holders.name())}, gate, there);
    for (std::size_t row = 0; row < gate.rows(); ++row)
      in.expect(gate.evidence(gate.slot(column::holders), row) ==
                    static_cast<float>(counts[place][static_cast<std::size_t>(gate.born(row))]),
                "as many holders of a gate's key as there are");
    // A policy closes what holds it, never the key.
    for (std::size_t row = 0; row < gate.rows(); ++row)
      in.expect(gate.until(row) == (windows[place] > 0 ? gate.born(row) + windows[place] : never),
                "gate's keys that only a sliding window ends");
    for (std::size_t p = 0; p < there.size(); ++p)
      in.expect((there[p] > 0) == (counts[place][p] > 0), "a gate's key for each token that is held");
  }
  const auto kept_ahead = in.numbers<Position>();
  in.expect(ascends_below(kept_ahead, static_cast<Position>(setup.context)), "kept tokens within the context");
  cache.keep_ahead(kept_ahead);
  const auto end = in.number<Position>(), last_change = in.number<Position>();
  in.expect(0 <= last_change && last_change <= end && end <= s.fed, "a change of what was fed");
  cache.resume(end, last_change);
  read_log(in, cache.log(), s.tokens.size());
}

}  // namespace

std::string save(const Sequence& sequence, const Setup& setup, std::string_view model, std::string_view note) {
  ByteWriter out;
  out.bytes(std::as_bytes(std::span(magic)));
  out.number(version);
  out.number(std::uint64_t{0});  // the size, when it is known
  const auto all = conditions(setup, model);
  out.count(all.size());
  for (const Condition& one : all) out.text(one.is);
  out.text(note);
  write_given(out, sequence);
  write_rows(out, sequence.cache, setup);
  std::string bytes = out.take();
  const std::uint64_t size = bytes.size() + sizeof(std::uint64_t);
  std::memcpy(bytes.data() + head_bytes - sizeof size, &size, sizeof size);
  const std::uint64_t sum = checksum(std::as_bytes(std::span(bytes)));
  bytes.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  return bytes;
}

SavedSequence restore(std::span<const std::byte> bytes, const std::string& whose, const Setup& setup,
                      std::string_view model, Sequences& sequences) {
  ByteReader head(bytes, whose);
  if (bytes.size() < head_bytes || std::memcmp(head.bytes(magic.size()).data(), magic.data(), magic.size()) != 0)
    fail(ErrorCode::format, whose, "a saved sequence", "something else");
  if (const auto found = head.number<std::uint32_t>(); found != version)
    fail(ErrorCode::format, whose, "version " + std::to_string(version), std::to_string(found));
  if (const auto size = head.number<std::uint64_t>(); size != bytes.size() || size < head_bytes + sizeof size)
    fail(ErrorCode::format, whose, std::to_string(size) + " bytes", std::to_string(bytes.size()));
  std::uint64_t sum = 0;
  const auto covered = bytes.first(bytes.size() - sizeof sum);
  std::memcpy(&sum, bytes.data() + covered.size(), sizeof sum);
  if (checksum(covered) != sum)
    fail(ErrorCode::format, whose, "the checksum of what was saved", "another: the bytes are damaged");

  ByteReader in(covered.subspan(head_bytes), whose);
  const auto all = conditions(setup, model);
  in.expect(in.count(sizeof(std::uint64_t)) == all.size(), "what it can be made again by");
  for (const Condition& one : all)
    if (const std::string found = in.text(); found != one.is) fail(one.code, whose + ": " + one.what, one.is, found);
  SavedSequence saved{sequences.make(), in.text()};
  read_given(in, saved.sequence, setup);
  read_rows(in, saved.sequence, setup);
  in.expect(in.left() == 0, "nothing more");
  return saved;
}

}  // namespace pith
