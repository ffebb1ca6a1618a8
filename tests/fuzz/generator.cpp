// SPDX-License-Identifier: MIT
// Random requests to a generator that come, are cancelled, go on in conversations, share beginnings and compete for
// room: each ends once, the pool is empty at the end, and what a request was told is, bit for bit, what it is told
// alone.
#include "pith/generator.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "fuzz/choices.hpp"
#include "fuzz/scratch_file.hpp"
#include "fuzz/small_models.hpp"
#include "pith/error.hpp"
#include "support/heard.hpp"
#include "support/kv.hpp"

namespace {

using namespace pith;
using test::Choices;
using test::hold;
using testing::Asked;

/// The requests of a conversation, one after another, as far as they can be asked again alone.
struct Talk {
  std::vector<Asked> asked;
  std::size_t repeatable = SIZE_MAX;  // so many
};

class Driver {
 public:
  explicit Driver(Choices& choices)
      : choices_(choices), shape_(test::small_shape(choices.byte())), generator_(make()) {}

  void run() {
    for (int calls = 0; calls < 60 && !choices_.empty(); ++calls) call();
    generator_.run();
    hold(generator_.pending() == 0, "a generator that has run has nothing left to do");
    for (const Asked& one : single_) check(std::span(&one, 1));
    for (const auto& [id, talk] : talks_) {
      check(std::span(talk.asked).first(std::min(talk.asked.size(), talk.repeatable)));
      generator_.close(id);
    }
    generator_.step();
    hold(generator_.session().stats().bytes_used == generator_.prefixes().bytes,
         "beginnings alone are held at the end");
  }

 private:
  Generator make() {
    options_.policy = choices_.one_of(shape_.policies).policy;
    options_.kv = choices_.one_of(testing::kv_pairs());
    options_.threads = 1;
    options_.chunk = choices_.one_of(std::vector<int>{16, 1, 5, 40});
    // Alone, too: where there is no room for a chunk it is halved, on which some policies' choices depend.
    if (choices_.once_in(3)) options_.kv_budget = (4 + choices_.below(64)) << 13;
    const PrefixOptions prefixes{.bytes = choices_.once_in(3) ? std::size_t{1} << 18 : 0};
    return Generator(model_, std::nullopt, options_, 1 + choices_.below(5), prefixes);
  }

  Request request() {
    Request all;
    const std::size_t seed = choices_.below(4), count = 1 + choices_.below(40);
    auto prompt = testing::random_tokens(seed, model_.config(), count);
    // Beginnings are shared: the same four texts, which part somewhere.
    if (choices_.coin()) prompt.back() = choices_.integer(0, 32);
    all.max_tokens = choices_.below(10);
    if (choices_.coin()) all.ends = std::vector<Token>{};
    all.sampler.seed = choices_.byte();
    all.sampler.temperature = choices_.coin() ? 1.5f : 0.0f;
    if (choices_.once_in(4)) all.sampler.top_k = 5;
    if (choices_.once_in(4)) all.sampler.repetition_penalty = 1.3f;
    if (choices_.once_in(3)) all.draft = {.tokens = choices_.below(9), .layers = choices_.below(2)};
    if (choices_.once_in(5)) all.tau = choices_.coin() ? 0.5f : -1.0f;
    if (choices_.once_in(5)) all.pinned = choices_.below(prompt.size() + 1);
    if (choices_.once_in(6)) all.anchors = {.end = choices_.below(prompt.size() + 1), .tokens = {0}};
    if (choices_.once_in(4)) all.prefix = choices_.below(prompt.size() + 1);
    all.prompt = std::move(prompt);
    return all;
  }

  void submit(std::vector<Asked>& to, std::optional<ConversationId> conversation) {
    Asked asked{request()};
    Request given = asked.listened();
    given.conversation = conversation;
    try {
      asked.id = generator_.submit(std::move(given));
      to.push_back(std::move(asked));
    } catch (const Error& error) {
      hold(error.code() == ErrorCode::argument || error.code() == ErrorCode::state ||
               error.code() == ErrorCode::unsupported,
           "a request is refused for what it asks");
    }
  }

  void call() {
    const std::size_t which = choices_.below(12);
    if (which <= 1) return submit(single_, std::nullopt);
    if (which <= 5) return void(generator_.step());
    if (which == 6) {
      if (!single_.empty()) generator_.cancel(choices_.one_of(single_).id);
      return;
    }
    if (which == 7 || talks_.empty()) {
      if (talks_.size() < 4) talks_.emplace(generator_.open(), Talk{});
      return;
    }
    auto at = talks_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(choices_.below(talks_.size())));
    auto& [id, talk] = *at;
    try {
      if (which <= 9) return submit(talk.asked, id);
      if (which == 10) return move(id);
      generator_.compress(id, {.share = 0.5f, .sinks = 1, .chunk = 8, .all = {1}, .part = {2}, .overlap = 1});
      talk.repeatable = std::min(talk.repeatable, talk.asked.size());
    } catch (const Error& error) {
      hold(error.code() == ErrorCode::argument || error.code() == ErrorCode::state ||
               error.code() == ErrorCode::unsupported || error.code() == ErrorCode::budget,
           "a conversation is refused for what it is");
    }
  }

  /// Out of the generator and back.
  void move(ConversationId id) {
    static const test::ScratchFile file(".talk");
    const std::size_t length = generator_.length(id);
    generator_.save(id, file.path());
    const ConversationId again = generator_.restore(file.path()).first;
    hold(generator_.length(again) == length, "a conversation that was saved is as long");
    generator_.close(id);
    talks_[again] = std::move(talks_.at(id));
    talks_.erase(id);
  }

  void check(std::span<const Asked> all) {
    for (const Asked& one : all) {
      hold(one.heard->finish.has_value(), "a request ends");
      hold(one.heard->after_the_end == 0, "a request ends once");
      hold((one.heard->finish == Finish::error) == (one.heard->error != nullptr), "an error is told");
    }
    hold(testing::as_alone(model_, options_, all), "a request is told what it is told alone");
  }

  Choices& choices_;
  const test::SmallShape& shape_;
  const Model& model_ = shape_.model;
  SessionOptions options_;
  std::vector<Asked> single_;
  std::map<ConversationId, Talk> talks_;
  Generator generator_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pith::test::drive<Driver>(data, size);
  return 0;
}
