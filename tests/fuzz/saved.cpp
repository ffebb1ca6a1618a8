// SPDX-License-Identifier: MIT
// Any bytes as a saved session: an Error, or a sequence that can be driven on and finished. The first byte chooses a
// sequence that was saved, the others are edits of it, after which its size and checksum are true again: a forged
// file. Beyond the last of those sequences the bytes are the file.
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "files/checksum.hpp"
#include "fuzz/choices.hpp"
#include "pith/error.hpp"
#include "pith/prune/methods.hpp"
#include "pith/session.hpp"
#include "support/random_model.hpp"

namespace {

using namespace pith;

const Model& model() {
  static const Model one = testing::random_model(
      {.seed = 8, .architecture = Architecture::qwen3, .head_dim = 32, .n_layers = 3, .window = 0, .context = 64});
  return one;
}

/// Sessions that differ in what their sequences carry, and how far one of each has come when it is saved.
struct Base {
  SessionOptions options;
  std::function<void(Session&, SequenceId)> drive;
};

std::vector<Base> bases() {
  using namespace prune;
  const auto tokens = [](std::size_t n) { return testing::random_tokens(n, model().config(), n); };
  const auto read = [](Session& s, SequenceId) {
    while (!s.idle()) s.step();
  };
  const auto options = [](AnyPolicy policy, KvPair kv = KvFormat::f32) {
    return SessionOptions{.policy = std::move(policy), .kv = kv, .threads = 1, .chunk = 8, .record_drops = true};
  };
  std::vector<Base> all;
  all.push_back({options(none()), read});
  all.push_back({options(learned_gate(), KvFormat::q8_0), [=](Session& s, SequenceId id) {
                   read(s, id);
                   s.set_tau(id, 0.5f);
                   const Position kept[] = {2, 60};
                   s.keep(id, kept);
                 }});
  all.push_back({options(per_head(learned_gate()), KvFormat::q4_0), read});
  all.push_back({options(h2o({.rows = 10, .recent = 3}), KvFormat::f16), [=](Session& s, SequenceId id) {
                   read(s, id);
                   const Position pin[] = {41};
                   s.compress(id, 39, 44, pin);
                   s.prompt(id, tokens(9));
                   s.pass();
                 }});
  all.push_back(
      {options(fastkv({.rows = 12, .window = 4, .pool = 3, .tokens = 20})), [=](Session& s, SequenceId) { s.pass(); }});
  all.push_back({options(think({.channels = 0.5f})), read});
  all.push_back({options(streaming({.sinks = 2, .recent = 8})), [=](Session& s, SequenceId id) {
                   read(s, id);
                   s.draft(id, 3, 1);
                   s.step();
                   s.draft(id, 4, 1);
                   s.step();
                 }});
  all.push_back({options(expected_attention({.rows = 12, .recent = 3})), [=](Session& s, SequenceId id) {
                   s.pass();
                   const std::vector<float> row(2 * static_cast<std::size_t>(model().config().d_model), 0.25f);
                   s.prompt(id, View<const float>{row.data(), 2, row.size() / 2}, Logits::all);
                 }});
  return all;
}

struct Saved {
  std::unique_ptr<Session> session;  // what is restored is restored here
  std::string bytes;
};

const std::vector<Saved>& saved() {
  static const std::vector<Saved> all = [] {
    std::vector<Saved> out;
    for (const Base& base : bases()) {
      auto session = std::make_unique<Session>(model(), base.options);
      const SequenceId id = session->add(testing::random_tokens(1, model().config(), 38));
      base.drive(*session, id);
      out.push_back({std::move(session), {}});
      out.back().bytes = out.back().session->save(id);
      out.back().session->finish(id);
    }
    return out;
  }();
  return all;
}

/// What a number may be replaced by, beside its neighbours.
constexpr std::uint64_t numbers[] = {0, 1, 2, 31, 32, 33, 63, 64, 65, 255, 0x7fffffff, 0xffffffff, ~std::uint64_t{0}};

void edit(std::string& bytes, test::Choices& choices) {
  const std::size_t at = choices.below(bytes.size());
  const std::size_t width = std::min<std::size_t>(std::size_t{1} << choices.below(4), bytes.size() - at);
  std::uint64_t number = 0;
  std::memcpy(&number, bytes.data() + at, width);
  switch (choices.below(6)) {
    case 0:
      number += choices.byte() + 1u;
      break;
    case 1:
      number -= choices.byte() + 1u;
      break;
    case 2:
      number = numbers[choices.below(std::size(numbers))];
      break;
    case 3:
      number ^= std::uint64_t{1} << choices.below(64);
      break;
    case 4:
      bytes.erase(at, 1 + choices.byte());
      return;
    default: {
      const std::size_t count = 1 + choices.byte();
      bytes.insert(at, count, static_cast<char>(choices.byte()));
      return;
    }
  }
  std::memcpy(bytes.data() + at, &number, width);
}

/// The size behind magic and version, and the checksum at the end, are those of the bytes.
void make_true(std::string& bytes) {
  constexpr std::size_t size_at = 12;
  const std::uint64_t size = bytes.size();
  if (size < size_at + 2 * sizeof size) return;
  std::memcpy(bytes.data() + size_at, &size, sizeof size);
  Checksum sum;
  sum.add(std::as_bytes(std::span(bytes).first(bytes.size() - sizeof size)));
  const std::uint64_t value = sum.value();
  std::memcpy(bytes.data() + bytes.size() - sizeof value, &value, sizeof value);
}

template <class F>
void attempt(F&& f) {
  try {
    f();
  } catch (const Error&) {
  }
}

/// What was restored goes on as far as it can.
void drive(Session& session, SequenceId id) {
  attempt([&] {
    while (!session.idle()) session.step();
    session.verify(id);
    session.step();
  });
  attempt([&] {
    for (int i = 0; i < 3; ++i) {
      session.push(id, 1 + i);
      session.step();
    }
    session.save(id);
    session.drop_at(id);
    session.rewind(id, session.length(id) - 1);
  });
  attempt([&] {
    session.prompt(id, testing::random_tokens(2, model().config(), 5));
    while (!session.idle()) session.step();
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::Choices choices(data, size);
  const std::size_t which = choices.byte() % (saved().size() + 1);
  const bool raw = which == saved().size();
  const Saved& base = saved()[raw ? 0 : which];
  std::string bytes = base.bytes;
  if (raw) {
    bytes.assign(choices.rest().begin(), choices.rest().end());
    if (choices.coin()) make_true(bytes);
  } else {
    while (!choices.empty() && bytes.size() > 64) edit(bytes, choices);
    make_true(bytes);
  }
  std::optional<SequenceId> id;
  attempt([&] { id = base.session->restore(std::as_bytes(std::span(bytes))).sequence; });
  if (!id) return 0;
  drive(*base.session, *id);
  base.session->finish(*id);
  test::hold(base.session->stats().bytes_used == 0, "the pool is empty at the end");
  return 0;
}
