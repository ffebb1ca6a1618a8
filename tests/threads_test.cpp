// SPDX-License-Identifier: MIT
// One model, many sessions, each in a thread of its own: nothing is shared that anybody writes. A child of the process
// goes on with what its parent had.
#include <gtest/gtest.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>

#include "support/batch.hpp"
#include "support/compare.hpp"
#include "support/policies.hpp"
#include "support/random_model.hpp"

namespace pith::testing {
namespace {

std::vector<Script> scripts_of(const Model& model, std::uint64_t seed) {
  std::vector<Script> scripts;
  for (const std::size_t prompt : {40u, 3u, 25u})
    scripts.push_back({random_tokens(seed + prompt, model.config(), prompt), random_tokens(seed, model.config(), 12)});
  return scripts;
}

std::vector<Played> run(const Model& model, std::uint64_t seed, const prune::AnyPolicy& policy, int threads) {
  Session session(model, {.policy = policy, .threads = threads, .chunk = 16});
  return play(session, scripts_of(model, seed), DropLog::Keep::counts);
}

void expect_same(const std::vector<Played>& a, const std::vector<Played>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i].logits, b[i].logits)) << "sequence " << i;
}

/// Each policy in a session and a thread of its own, all at once, against the same sessions one after another.
void check_sessions_side_by_side(const Model& model, int threads_of_each) {
  SCOPED_TRACE(describe(model));
  const auto cases = policy_cases();
  std::vector<std::vector<Played>> together(cases.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < cases.size(); ++i)
      threads.emplace_back([&, i] { together[i] = run(model, i, cases[i].policy, threads_of_each); });
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    expect_same(together[i], run(model, i, cases[i].policy, 1));
  }
}

TEST(ThreadsTest, SessionsShareAModel) {
  check_sessions_side_by_side(random_model({.seed = 1, .n_layers = 2}), 1);
  check_sessions_side_by_side(random_model({.seed = 2, .format = Format::q8_0, .n_layers = 2}), 1);
}

TEST(ThreadsTest, SessionsThatWorkInSeveralThreadsShareAModel) {
  check_sessions_side_by_side(random_model({.seed = 3, .n_layers = 2}), 2);
}

TEST(ThreadsTest, SessionsShareThreads) {
  const Model model = random_model({.seed = 5, .n_layers = 2, .context = 512});
  const Threads shared(3);
  std::vector<std::vector<Played>> together(4);
  const auto run_with = [&](std::size_t i, const Threads& threads) {
    Session session(model, {.policy = prune::none(), .threads = threads, .chunk = 64});
    const Script script{random_tokens(i, model.config(), 300), random_tokens(i, model.config(), 8)};
    return play(session, {script, script}, DropLog::Keep::counts);
  };
  {
    std::vector<std::jthread> hosts;
    for (std::size_t i = 0; i < together.size(); ++i) hosts.emplace_back([&, i] { together[i] = run_with(i, shared); });
  }
  for (std::size_t i = 0; i < together.size(); ++i) expect_same(together[i], run_with(i, 1));
}

TEST(ThreadsTest, ASessionMovesFromThreadToThread) {
  const Model model = random_model({.seed = 4, .n_layers = 2});
  const auto tokens = random_tokens(4, model.config(), 30);
  const Fed expected = feed(model, tokens, {Feeding::decode});
  std::optional<Session> session(std::in_place, model, SessionOptions{.threads = 1});
  std::optional<SequenceId> sequence;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    std::thread([&] {
      if (sequence) {
        session->push(*sequence, tokens[t]);
      } else {
        sequence = session->add(std::span(tokens).first(1));
      }
      const auto outputs = session->step();
      ASSERT_EQ(outputs.size(), 1u);
      EXPECT_EQ(copy(outputs[0].logits), expected.logits[t]);
    }).join();
  }
}

TEST(ThreadsTest, TheLastSessionMayOutliveEveryHandleOfItsModel) {
  std::vector<std::jthread> threads;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    Session session(random_model({.seed = seed}), {.threads = 1});
    threads.emplace_back([session = std::move(session)]() mutable {
      session.add(random_tokens(1, session.model().config(), 20));
      EXPECT_EQ(session.step().size(), 1u);
    });
  }
}

// --- Processes and signals -------------------------------------------------------------------------------------------

Script long_script(const Model& model) {
  return {random_tokens(1, model.config(), 200), random_tokens(2, model.config(), 6)};
}

/// Of a session with these threads: a long prompt, and some tokens.
Played play_with(const Model& model, const Threads& threads) {
  Session session(model, {.policy = prune::h2o({.rows = 64, .recent = 9}), .threads = threads, .chunk = 64});
  return play(session, {long_script(model)}, DropLog::Keep::counts)[0];
}

/// What `f` says in a child of this process, which has half a minute.
template <class F>
bool in_a_child(F&& f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(f() ? 0 : 1);
  }
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(ThreadsTest, AChildGoesOnWithWhatItsParentHad) {
  const Model model = random_model({.seed = 6, .head_dim = 64, .n_layers = 2, .context = 512});
  const Threads shared(2);
  Session session(model, {.threads = shared, .chunk = 64, .record_drops = true});
  const Script script = long_script(model);
  const SequenceId id = session.add(script.prompt);
  session.step();  // the parent's threads are there now
  const Logits2d expected = play_with(model, 1).logits;
  const auto go_on = [&] {
    Logits2d logits;
    session.push(id, script.rest, Logits::all);
    step_into(session, id, logits);
    return logits;
  };
  const SequenceId twin = session.fork(id);
  Logits2d own;
  session.push(twin, script.rest, Logits::all);
  step_into(session, twin, own);
  EXPECT_TRUE(in_a_child([&] { return same_bits(go_on(), own); })) << "its parent's session";
  EXPECT_TRUE(in_a_child([&] { return same_bits(play_with(model, shared).logits, expected); }))
      << "its parent's threads";
  EXPECT_TRUE(in_a_child([&] { return same_bits(play_with(model, 2).logits, expected); })) << "threads of its own";
  EXPECT_TRUE(same_bits(go_on(), own)) << "the parent";
}

TEST(ThreadsTest, SignalsThatTheHostHandlesChangeNothing) {
  const Model model = random_model({.seed = 7, .n_layers = 2, .context = 512});
  const Played calm = play_with(model, 1);
  static volatile std::sig_atomic_t heard = 0;
  struct sigaction handles = {}, before = {};
  handles.sa_handler = [](int) { heard = heard + 1; };  // without SA_RESTART
  ASSERT_EQ(sigaction(SIGALRM, &handles, &before), 0);
  const itimerval often = {{0, 200}, {0, 200}}, never_again = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
  for (int i = 0; i < 50 && heard < 5; ++i) {
    EXPECT_TRUE(same_bits(play_with(model, 2).logits, calm.logits));
    Session session(model, {.policy = prune::none(), .threads = 1});
    const SequenceId id = session.add(random_tokens(3, model.config(), 50));
    session.step();
    const auto file = std::filesystem::path(::testing::TempDir()) / ("pith-signals-" + std::to_string(getpid()));
    session.save(id, file);
    EXPECT_EQ(session.length(session.restore(file).sequence), 50u);
    std::filesystem::remove(file);
  }
  setitimer(ITIMER_REAL, &never_again, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  EXPECT_GE(heard, 5);
}

}  // namespace
}  // namespace pith::testing
