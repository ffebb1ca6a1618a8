// SPDX-License-Identifier: MIT
// Every allocation fails once: the call says so, leaks nothing, and what it was about goes on as if nothing had been.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pith/generator.hpp"
#include "pith/quantize.hpp"
#include "pith/session.hpp"
#include "support/allocations.hpp"
#include "support/files.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

/// Calls `f` until it succeeds with its first allocation failing, then its second and so on; `again` stands for what it
/// is called on. Returns how many failures it took. Whatever else it throws comes out.
std::size_t fail_each(const std::function<void()>& f) {
  for (std::size_t n = 1;; ++n) {
    allocations.until_failure = n;
    try {
      f();
      // Nothing had to be allocated any more, or a failure had no consequence.
      if (allocations.until_failure.exchange(0) > 0) return n - 1;
    } catch (const std::bad_alloc&) {
      allocations.until_failure = 0;
    }
  }
}

// A GGUF file alone: nlohmann's JSON allocates in its destructor, and a program ends where that fails.
TEST(OutOfMemory, OfLoadingLeaksNothing) {
  const test::TempFolder folder;
  const auto path = folder.path() / "model.gguf";
  quantize(random_model({.seed = 6, .architecture = Architecture::llama, .n_layers = 2, .gate = ModelSpec::Gate::no}),
           path);
  { const Model once = Model::load(path); }  // what is made once and kept is there now
  const std::size_t before = allocations.alive;
  std::size_t alive_then = 0;
  const std::size_t failures = fail_each([&] {
    alive_then = allocations.alive;
    const Model model = Model::load(path);
  });
  EXPECT_GT(failures, 100u);
  EXPECT_EQ(allocations.alive, before);
  EXPECT_EQ(alive_then, before);
}

/// What a session makes of some sequences: their logits, one after another, and what was dropped.
struct Course {
  std::vector<float> logits;
  std::vector<std::vector<std::vector<std::int32_t>>> drops;

  bool operator==(const Course&) const = default;
};

enum class Kind {
  adds,     // all or nothing
  changes,  // what a sequence holds, which may break
};
using Call = std::function<void(Kind, const std::function<void()>&)>;

void finish(Session& session, std::vector<SequenceId>& alive) {
  for (const SequenceId id : alive) session.finish(id);
  alive.clear();
  EXPECT_EQ(session.stats().bytes_used, 0u);
}

/// Each call of the session is made by `call`; `alive`: the sequences that are there.
Course run_all(Session& session, const Call& call, std::vector<SequenceId>& alive) {
  Course out;
  const std::vector<Token> tokens = random_tokens(3, session.model().config(), 80);
  const auto add = [&](const std::function<void()>& f) { call(Kind::adds, f); };
  const auto change = [&](const std::function<void()>& f) { call(Kind::changes, f); };
  const auto step = [&] {
    while (!session.idle()) {
      std::span<const Output> outputs;
      change([&] { outputs = session.step(); });
      for (const Output& output : outputs)
        out.logits.insert(out.logits.end(), output.logits.begin(), output.logits.end());
    }
  };
  const auto begin = [&](const std::function<SequenceId()>& f) {
    SequenceId id = {};
    add([&] { id = f(); });
    alive.push_back(id);
    return id;
  };
  const SequenceId first = begin([&] { return session.add(std::span(tokens).first(41)); });
  const SequenceId second = begin([&] { return session.add(std::span(tokens).subspan(20, 30)); });
  step();
  for (std::size_t t = 41; t < 47; ++t) {
    add([&] { session.push(first, tokens[t]); });
    add([&] { session.push(second, tokens[t + 9]); });
    step();
  }
  const SequenceId third = begin([&] { return session.fork(first); });
  change([&] { session.keep(third, std::vector<Position>{30, 44}); });
  change([&] { session.mark(second); });
  add([&] { session.push(second, std::span(tokens).first(4)); });
  add([&] { session.prompt(third, std::span(tokens).first(20)); });
  step();
  change([&] { session.rewind(second, 38); });
  change([&] { session.commit(second); });
  add([&] { session.push(second, tokens[60]); });
  step();
  out.drops = session.drop_at(third);
  finish(session, alive);
  return out;
}

Course run_all(Session& session) {
  std::vector<SequenceId> alive;
  return run_all(
      session, [](Kind, const auto& f) { f(); }, alive);
}

class OutOfMemoryInASession : public ::testing::TestWithParam<int> {
 protected:
  const Model model_ = random_model({.seed = 5, .format = Format::q8_0, .head_dim = 32, .n_layers = 2, .context = 256});

  /// Some that differ in what they keep and when they act, as all would take minutes.
  std::vector<PolicyCase> policies() const {
    std::vector<PolicyCase> all = policy_cases(model_.config()), out;
    for (PolicyCase& one : all)
      if (one.name == "gate" || one.name == "h2o" ||
          (GetParam() == 1 && (one.name == "snapkv" || one.name == "layer_defensivekv" || one.name == "fastkv")))
        out.push_back(std::move(one));
    return out;
  }

  SessionOptions options(const PolicyCase& one) const {
    return {.policy = one.policy, .threads = GetParam(), .chunk = 16, .record_drops = true};
  }
};

TEST_P(OutOfMemoryInASession, WhatAddsIsAsIfItHadNotBeenCalled) {
  for (const PolicyCase& one : policies()) {
    SCOPED_TRACE(one.name);
    Session calm(model_, options(one)), session(model_, options(one));
    const Course expected = run_all(calm);
    std::size_t failures = 0;
    std::vector<SequenceId> alive;
    const auto call = [&](Kind kind, const auto& f) { kind == Kind::adds ? void(failures += fail_each(f)) : f(); };
    const Course found = run_all(session, call, alive);
    EXPECT_TRUE(found == expected) << found.logits.size() << " logits, expected " << expected.logits.size();
    EXPECT_GT(failures, 20u);
  }
}

// What fails halfway breaks its sequences; they can be finished, and the session is as good as new.
TEST_P(OutOfMemoryInASession, WhatChangesLeavesSequencesToBeFinished) {
  for (const PolicyCase& one : policies()) {
    SCOPED_TRACE(one.name);
    {
      Session first(model_, options(one));  // makes a thread's scratch memory, which stays
      run_all(first);
    }
    const std::size_t before = allocations.alive;
    {
      Session calm(model_, options(one)), session(model_, options(one));
      const Course expected = run_all(calm);
      std::size_t broken = 0;
      for (std::size_t n = 1, left = 0; left == 0; n += static_cast<std::size_t>(GetParam())) {
        left = n;
        const auto call = [&](Kind kind, const auto& f) {
          if (kind == Kind::adds) return f();
          allocations.until_failure = left;
          f();
          left = allocations.until_failure.exchange(0);
        };
        std::vector<SequenceId> alive;
        try {
          EXPECT_TRUE(run_all(session, call, alive) == expected);
        } catch (const std::bad_alloc&) {
          left = allocations.until_failure.exchange(0);
          for (const SequenceId id : alive) {
            if (!session.broken(id)) continue;
            ++broken;
            test::expect_error(ErrorCode::state, {"push", "halfway"}, [&] { session.push(id, 1); });
          }
          finish(session, alive);
        }
      }
      EXPECT_GT(broken, 20u);
    }
    // A thread that helps keeps scratch memory of its own.
    if (GetParam() == 1) {
      EXPECT_EQ(allocations.alive, before);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, OutOfMemoryInASession, ::testing::Values(1, 2),
                         [](const auto& one) { return std::string(one.param == 1 ? "one_thread" : "two_threads"); });

// A request goes on as if nothing had been, or ends with what it has and the error.
TEST(OutOfMemory, OfAStepOfAGeneratorIsNoMatterToItsRequests) {
  const Model model = random_model({.seed = 7, .n_layers = 2, .context = 128});
  SCOPED_TRACE(describe(model));
  const auto generate = [&](std::size_t n) {
    std::vector<std::vector<Token>> said(3);
    Generator generator(model, std::nullopt, {.threads = 1, .chunk = 8});
    for (std::size_t i = 0; i < said.size(); ++i) {
      said[i].reserve(20);
      generator.submit({.prompt = random_tokens(i, model.config(), 11 + i),
                        .max_tokens = 6,
                        .sampler = {.seed = i},
                        .on_piece = [&tokens = said[i]](const Piece& piece) {
                          if (piece.token) tokens.push_back(*piece.token);
                          if (piece.finish == Finish::error) tokens.push_back(-1);
                        }});
    }
    allocations.until_failure = n;
    for (bool more = true; more;) {
      try {
        more = generator.step();
      } catch (const std::bad_alloc&) {
      }
    }
    return std::pair(said, n > 0 && allocations.until_failure.exchange(0) == 0);
  };
  const auto expected = generate(0).first;
  std::size_t unharmed = 0, ended = 0;
  for (std::size_t n = 1;; ++n) {
    const auto [said, failed] = generate(n);
    if (!failed) break;
    for (std::size_t i = 0; i < said.size(); ++i) {
      const bool ends = !said[i].empty() && said[i].back() == -1;
      ++(ends ? ended : unharmed);
      const std::vector<Token> tokens(said[i].begin(), said[i].end() - (ends ? 1 : 0));
      EXPECT_TRUE(ends || tokens.size() == expected[i].size());
      EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected[i].begin()))
          << "request " << i << ", failure " << n;
    }
  }
  EXPECT_GT(unharmed, 4 * ended);
}

}  // namespace
}  // namespace pith::testing
