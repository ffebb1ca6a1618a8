// SPDX-License-Identifier: MIT
// Random calls of a session over a random model, policy and cache, against what is promised: a call that throws has
// changed nothing, rows are counted, a byte budget is kept, the pool is empty at the end, and each sequence, however it
// was forked, saved, restored, rewound, interrupted and beside whatever others, is bit for bit what its own calls make
// of it in a session that it has for itself.
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "files/checksum.hpp"
#include "fuzz/choices.hpp"
#include "fuzz/small_models.hpp"
#include "pith/error.hpp"
#include "pith/session.hpp"
#include "support/feed.hpp"
#include "support/kv.hpp"

namespace {

using namespace pith;
using test::Choices;
using test::hold;

/// A policy that interrupts a pass at one of its layers.
struct Interrupt {
  std::shared_ptr<std::pair<int, std::stop_source>> after;  // so many layers

  prune::Needs needs() const { return {}; }
  void after_attention(const KvLayer& /*layer*/, const prune::Moment& /*moment*/) const {
    if (after->first > 0 && --after->first == 0) after->second.request_stop();
  }
};

/// A sequence's own calls and passes, in their order, and what came of them.
struct Course {
  using Call = std::function<void(Session&, SequenceId)>;  // none: one pass
  std::function<SequenceId(Session&)> begin;
  std::vector<Call> calls = {};
  std::vector<std::uint64_t> outputs = {};  // checksums of logits
};

std::uint64_t checksum(std::span<const float> logits) {
  Checksum sum;
  sum.add(std::as_bytes(logits));
  return sum.value();
}

class Driver {
 public:
  explicit Driver(Choices& choices) : choices_(choices), shape_(test::small_shape(choices.byte())), session_(make()) {}

  void run() {
    for (int calls = 0; calls < 80 && !choices_.empty(); ++calls) {
      call();
      check();
    }
    // What is left is run to its end, or as far as the budget goes.
    while (!session_.idle() && step(false)) {
    }
    if (!alive_.empty()) compare(some());
    while (!alive_.empty()) finish(alive_.begin()->first);
    check();
    hold(session_.stats().bytes_used == 0 && session_.stats().seen_rows == 0, "the pool is empty at the end");
  }

 private:
  Session make() {
    const testing::PolicyCase& policy = choices_.one_of(shape_.policies);
    options_.policy = policy.policy;
    if (choices_.coin()) options_.policy = choices_.one_of(testing::combined(policy, model_.config())).policy;
    if (choices_.once_in(4)) {
      interrupt_ = std::make_shared<std::pair<int, std::stop_source>>();
      options_.policy = prune::chain(*options_.policy, Interrupt{interrupt_});
    }
    options_.kv = choices_.one_of(testing::kv_pairs());
    options_.threads = 1;
    options_.chunk = choices_.one_of(std::vector<int>{16, 1, 3, 7, 40});
    if (choices_.once_in(4)) options_.kv_budget = (1 + choices_.below(64)) << 12;
    options_.record_drops = choices_.coin();
    SessionOptions heard = options_;
    heard.on_pass = [this](const PassInfo& pass) { alive_.at(pass.sequence).calls.emplace_back(); };
    return Session(model_, heard);
  }

  SequenceId some() {
    auto at = alive_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(choices_.below(alive_.size())));
    return at->first;
  }

  std::vector<Token> tokens(std::size_t most) {
    const std::size_t seed = choices_.byte(), count = choices_.below(most + 1);
    return testing::random_tokens(seed, model_.config(), count);
  }
  std::vector<Position> positions() {
    std::vector<Position> all(choices_.below(6));
    for (Position& one : all) one = choices_.integer(0, test::small_context);
    return all;
  }
  Logits logits() { return choices_.one_of(std::vector{Logits::last, Logits::all, Logits::none}); }

  std::vector<float> embeddings(std::size_t count) {
    testing::Random random(choices_.byte());
    std::vector<float> all(count * static_cast<std::size_t>(model_.config().d_model));
    for (float& one : all) one = random.normal();
    return all;
  }

  void begin(Course course) {
    if (alive_.size() >= 6) return;
    try {
      const SequenceId id = course.begin(session_);
      alive_.emplace(id, std::move(course));
    } catch (const Error&) {
    }
  }

  /// A call of a sequence alone: it is part of its course unless it throws.
  void make_call(SequenceId id, const Course::Call& f) {
    try {
      f(session_, id);
      alive_.at(id).calls.push_back(f);
    } catch (const Error& error) {
      hold(error.code() == ErrorCode::argument || error.code() == ErrorCode::state ||
               error.code() == ErrorCode::unsupported || error.code() == ErrorCode::budget,
           "a call is refused for what it asks");
    }
  }

  void add() {
    const Logits wanted = logits();
    if (choices_.once_in(8)) {
      const std::size_t count = choices_.below(20);
      begin({[this, rows = embeddings(count), count, wanted](Session& s) {
        return s.add(View<const float>{rows.data(), count, static_cast<std::size_t>(model_.config().d_model)}, wanted);
      }});
    } else {
      begin({[prompt = tokens(45), wanted](Session& s) { return s.add(prompt, wanted); }});
    }
  }

  /// False where no sequence has room.
  bool step(bool one_pass) {
    std::stop_source stop;
    if (interrupt_) interrupt_->second = stop;
    try {
      for (const Output& output : one_pass ? session_.pass(stop.get_token()) : session_.step(stop.get_token()))
        alive_.at(output.sequence).outputs.push_back(checksum(output.logits));
    } catch (const SequenceError& error) {
      alive_.erase(error.sequence());  // a number too large for the cache's format
      session_.finish(error.sequence());
      halfway_ = true;
    } catch (const Error& error) {
      hold(error.code() == ErrorCode::budget || error.code() == ErrorCode::cancelled, "a step fails for its budget");
      halfway_ = error.code() == ErrorCode::cancelled;
      return halfway_;
    }
    halfway_ = false;
    return true;
  }

  void finish(SequenceId id) {
    session_.finish(id);
    alive_.erase(id);
  }

  void copy(SequenceId id) {
    if (alive_.size() >= 6) return;
    const bool saves = choices_.coin();
    try {
      const std::string saved = saves ? session_.save(id) : std::string();
      const SequenceId twin = saves ? session_.restore(std::as_bytes(std::span(saved))).sequence : session_.fork(id);
      alive_.emplace(twin, alive_.at(id));
      hold(session_.length(twin) == session_.length(id), "a copy is as long");
      hold(std::ranges::equal(session_.tokens(twin), session_.tokens(id)), "a copy has the same tokens");
    } catch (const Error&) {
    }
  }

  void call() {
    const std::size_t which = choices_.below(20);
    if (which == 0 || alive_.empty()) return add();
    if (which <= 4) return void(step(choices_.coin()));
    if (which == 5 && interrupt_) {
      interrupt_->first = choices_.integer(1, 5);
      step(true);
      interrupt_->first = 0;
      return;
    }
    const SequenceId id = some();
    switch (which) {
      case 5:
        return finish(id);
      case 6:
        return copy(id);
      case 7: {
        const auto more = tokens(20);
        const Logits wanted = logits();
        return make_call(id, [=](Session& s, SequenceId of) { s.prompt(of, more, wanted); });
      }
      case 8: {
        const auto more = tokens(5);
        const Logits wanted = logits();
        return make_call(id, [=](Session& s, SequenceId of) { s.push(of, more, wanted); });
      }
      case 9: {
        const std::size_t count = 1 + choices_.below(4), d = static_cast<std::size_t>(model_.config().d_model);
        const auto rows = embeddings(count);
        return make_call(id, [=](Session& s, SequenceId of) { s.push(of, View<const float>{rows.data(), count, d}); });
      }
      case 10: {
        const auto kept = positions();
        return make_call(id, [=](Session& s, SequenceId of) { s.keep(of, kept); });
      }
      case 11: {
        const auto gone = positions();
        const std::size_t layer = choices_.below(4);
        return make_call(id, [=](Session& s, SequenceId of) { s.forget(of, layer, gone); });
      }
      case 12: {
        const float tau = choices_.one_of(std::vector{0.0f, 0.5f, -1.0f, 3.0f});
        return make_call(id, [=](Session& s, SequenceId of) { s.set_tau(of, tau); });
      }
      case 13:
        return make_call(id, [](Session& s, SequenceId of) { s.mark(of); });
      case 14:
        return make_call(id, [](Session& s, SequenceId of) { s.commit(of); });
      case 15: {
        const std::size_t length = session_.length(id) - std::min(choices_.below(12), session_.length(id));
        return make_call(id, [=](Session& s, SequenceId of) { s.rewind(of, length); });
      }
      case 16: {
        const Position begin = choices_.integer(0, 40), end = begin + choices_.integer(0, 12);
        auto pins = positions();
        std::erase_if(pins, [&](Position p) { return p < begin || p >= end; });
        return make_call(id, [=](Session& s, SequenceId of) { s.compress(of, begin, end, pins); });
      }
      case 17: {
        const Replay how{.share = choices_.one_of(std::vector{0.3f, 0.0f, 0.7f, 1.0f}),
                         .sinks = choices_.integer(0, 4),
                         .chunk = choices_.integer(1, 20),
                         .all = tokens(3),
                         .part = tokens(3),
                         .overlap = choices_.integer(0, 3)};
        return make_call(id, [=](Session& s, SequenceId of) {
          const std::vector<Token> all(s.tokens(of).begin(), s.tokens(of).end());
          s.compress(of, all, how);
        });
      }
      case 18: {
        const Token token = choices_.integer(0, 32);
        const std::size_t layers = choices_.below(3);
        return make_call(id, [=](Session& s, SequenceId of) { s.draft(of, token, layers); });
      }
      default:
        return make_call(id, [](Session& s, SequenceId of) { s.verify(of); });
    }
  }

  void check() {
    const CacheStats all = session_.stats();
    hold(all.bytes_used <= all.bytes_reserved && all.bytes_used <= all.bytes_high_water,
         "bytes that are used are there");
    hold(options_.kv_budget == 0 || all.bytes_used <= options_.kv_budget, "a budget is kept");
    std::uint64_t seen = 0, dropped = 0;
    for (const auto& [id, course] : alive_) {
      const CacheStats one = session_.stats(id);
      // Tokens that have gone through some layers alone are not the sequence's yet.
      const bool whole = !halfway_ && session_.length(id) == session_.tokens(id).size();
      hold(!whole || testing::rows_there(model_.config(), one) + one.dropped_rows == one.seen_rows,
           "a row is there or was dropped");
      hold(session_.length(id) <= session_.tokens(id).size(), "a sequence is as long as what went through all layers");
      hold(session_.tokens(id).size() <= session_.context(), "a sequence fits into the context");
      hold(!session_.broken(id), "nothing breaks");
      seen += one.seen_rows;
      dropped += one.dropped_rows;
    }
    hold(seen == all.seen_rows && dropped == all.dropped_rows, "a session's rows are its sequences'");
  }

  /// The sequence's own calls again, alone.
  void compare(SequenceId id) {
    const Course& course = alive_.at(id);
    Session alone(model_, options_);
    const SequenceId again = course.begin(alone);
    std::vector<std::uint64_t> outputs;
    for (const Course::Call& one : course.calls) {
      if (one) {
        one(alone, again);
      } else {
        for (const Output& output : alone.pass()) outputs.push_back(checksum(output.logits));
      }
    }
    hold(outputs == course.outputs, "logits are those that a sequence has alone");
    hold(std::ranges::equal(alone.tokens(again), session_.tokens(id)), "tokens are those that a sequence has alone");
    hold(alone.length(again) == session_.length(id), "a sequence is as long as it is alone");
    hold(alone.stats(again).live_rows == session_.stats(id).live_rows, "rows are those that a sequence has alone");
    if (options_.record_drops)
      hold(alone.drop_at(again) == session_.drop_at(id), "drops are those that a sequence has alone");
  }

  Choices& choices_;
  const test::SmallShape& shape_;
  const Model& model_ = shape_.model;
  SessionOptions options_;
  std::shared_ptr<std::pair<int, std::stop_source>> interrupt_;
  std::map<SequenceId, Course> alive_;
  bool halfway_ = false;  // a pass was interrupted
  Session session_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pith::test::drive<Driver>(data, size);
  return 0;
}
